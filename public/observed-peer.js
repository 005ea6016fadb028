/** A peer of a page, which collects what it knows of its paths. */

import {Evidence} from './evidence.js';
import {Peer} from './peer.js';

/** ObservedPeer is a Peer with its evidence, for an explanation if the call does not connect. */
export class ObservedPeer extends Peer {
  evidence;

  /** @param {ConstructorParameters<typeof Peer>[0]} options */
  constructor({connect = configuration => new RTCPeerConnection(configuration), ...options}) {
    const evidence = new Evidence();
    super({...options, connect: configuration => evidence.watch(connect(configuration))});
    this.evidence = evidence;
  }

  /**
   * @override
   * @param {import('./peer.js').Signal} signal
   */
  receive(signal) {
    if (signal.call === this.call) this.evidence.addSignal(signal);
    return super.receive(signal);
  }
}
