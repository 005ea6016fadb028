/** A peer of a page, which collects what it knows of its paths. */

import {Evidence} from './evidence.js';
import {WatchedPeer} from './watched-peer.js';

/** ObservedPeer is a WatchedPeer with its evidence, for an explanation if the call does not connect. */
export class ObservedPeer extends WatchedPeer {
  evidence;

  /** @param {import('./watched-peer.js').WatchedPeerOptions} options */
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
