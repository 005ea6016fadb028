/**
 * WatchedPeer is a Peer that watches the path of its packets. ICE also restarts when the path is
 * silent, or when the signaling channel of a relayed call works again (see ice-restart.js), and
 * later each time; video begins with a key frame after that. ICE servers that the browser
 * rejects are left out. In Firefox, a data channel can deliver nothing after a restart of a path
 * that was dead for half a minute. A call without media must detect this and create a new call.
 */

import {emit} from './events.js';
import {RestartPolicy} from './ice-restart.js';
import {applyAccepted, connectWith} from './ice.js';
import {PathMonitor} from './path.js';
import {Peer} from './peer.js';

/**
 * @typedef {import('./path.js').Path} Path
 * @typedef {import('./peer.js').Signal} Signal
 * @typedef {import('./peer.js').PeerOptions & {twoWay?: boolean | undefined}} WatchedPeerOptions twoWay: whether
 *   both peers send, true by default; equal on both sides
 */

/**
 * WatchedPeer has one more event, with a `detail`:
 * - path: 'direct' or 'relayed', when it is known and when it changes
 */
export class WatchedPeer extends Peer {
  /** The URLs of the ICE servers that were left out, because the browser rejects them. */
  rejectedServers;
  /** The dead path that a restart replaces, if any. @type {string | null} */
  #deadPath = null;
  /** @type {'direct'|'relayed'|undefined} */
  #pathKind;
  #restarts = new RestartPolicy();
  /** The value of `sending` in the last signal. */
  #announcedSending = false;
  #monitor;
  #polite;
  #twoWay;

  /** @param {WatchedPeerOptions} options */
  constructor({connect = configuration => new RTCPeerConnection(configuration), twoWay = true, ...options}) {
    /** @type {string[]} */
    let rejectedServers = [];
    super({
      ...options,
      connect: configuration => {
        const {connection, rejected} = connectWith(iceServers => connect({...configuration, iceServers}), configuration.iceServers ?? []);
        rejectedServers = rejected;
        return connection;
      },
    });
    this.rejectedServers = rejectedServers;
    this.#polite = options.polite;
    this.#twoWay = twoWay;
    this.#monitor = new PathMonitor(this.connection, path => this.#onCheck(path));
  }

  /** Whether a TURN server forwards the packets of the call, or did so when it was last connected. */
  get relayed() {
    return this.#restarts.relayed;
  }

  /**
   * After an outage, a relayed call restarts ICE immediately, because the relay
   * is usually a part of the server that was unavailable.
   * @override
   * @param {boolean} open
   */
  setSignaling(open) {
    this.#restarts.setSignaling(open);
    this.#checkRestart();
  }

  /** @override @param {'audio'|'video'} kind @param {MediaStreamTrack | null} track */
  async setTrack(kind, track) {
    if (this.#twoWay || this.transceivers.has(kind)) await super.setTrack(kind, track);
    else this.addTransceiver(kind, track, 'sendonly');
  }

  /** @override @internal */
  async adoptTransceivers() {
    if (this.#twoWay) await super.adoptTransceivers();
  }

  /** @override */
  close() {
    this.#monitor.stop();
    super.close();
  }

  /** @override @param {Signal} signal @internal */
  onSignal({sending = false, restart}) {
    this.#restarts.remoteSending = sending;
    if (!restart || this.#polite) return;
    this.#restarts.request(Date.now());
    this.#checkRestart();
  }

  /** @override @param {import('./peer.js').SignalContent} content @internal */
  sendSignal(content) {
    this.#announcedSending = this.#sending;
    super.sendSignal({sending: this.#announcedSending, ...content});
  }

  /** Whether this peer sends live media. A track that is muted or disabled can send nothing for a while. */
  get #sending() {
    return [...this.transceivers.values()].some(({sender: {track}}) =>
      track !== null && track.readyState === 'live' && track.enabled && !track.muted);
  }

  /** @override @param {RTCPeerConnectionState} state @internal */
  onConnectionState(state) {
    this.#restarts.setState(state, Date.now());
    this.#monitor.start();
    this.#checkRestart();
  }

  /** @override @param {RTCSessionDescriptionInit} last @param {RTCSessionDescriptionInit} offer @internal */
  async onRemoteRestart(last, offer) {
    if (iceUfrag(last) === iceUfrag(offer)) return;
    this.#restarts.beginRemote(Date.now());
    this.#awaitPath();
    await super.onRemoteRestart(last, offer);
  }

  /** @override @param {RTCConfiguration} configuration @internal */
  configure({iceServers = [], ...configuration}) {
    this.rejectedServers = applyAccepted(list => super.configure({...configuration, iceServers: list}), iceServers);
  }

  /** @param {Path | null} path */
  #onCheck(path) {
    if (this.state === 'closed') return;
    if (path) this.#onPath(path, Date.now());
    if (this.#sending !== this.#announcedSending) this.sendSignal({});
    this.#checkRestart();
  }

  /**
   * Handles the state of the path. A silent path is not connected, whatever the
   * browser reports.
   * @param {Path} path
   * @param {number} now
   */
  #onPath(path, now) {
    const received = this.#restarts.setPath(path, now);
    if (received || !this.#restarts.remoteSending) this.setState('connected');
    else if (this.#restarts.silent(now)) this.setState('reconnecting');
    if (this.#deadPath !== null && this.#deadPath !== path.id) this.#onPathReplaced();
    const kind = path.relayed ? 'relayed' : 'direct';
    if (this.#pathKind !== kind) emit(this, 'path', this.#pathKind = kind);
  }

  /** Restarts ICE, or requests it from the impolite peer, if a restart is due. */
  #checkRestart() {
    const now = Date.now();
    if (this.state === 'closed' || !this.#restarts.due(now)) return;
    this.#restarts.begin(now);
    this.#awaitPath();
    this.restart();
  }

  /**
   * Prepares for the path that replaces a dead one. Video must then begin with a
   * key frame, because the remote peer requests one only every three seconds.
   */
  #awaitPath() {
    if (!this.#restarts.idle(Date.now())) return;
    this.#deadPath = this.#restarts.path?.id ?? '';
    this.#monitor.checkFrequently();
  }

  #onPathReplaced() {
    this.#deadPath = null;
    this.#monitor.checkNormally();
    const {sender} = this.transceivers.get('video') ?? {};
    if (sender?.track) sendKeyFrame(sender).catch(error => this.emitError(error));
  }
}

/**
 * Returns the username fragment of a description. An offer that restarts ICE has another one.
 * @param {RTCSessionDescriptionInit} description
 */
function iceUfrag({sdp = ''}) {
  return /^a=ice-ufrag:(\S*)/m.exec(sdp)?.[1];
}

/**
 * Makes a sender send a key frame. Browsers have no common function for it, but
 * an encoding that becomes active begins with one.
 * @param {RTCRtpSender} sender
 */
async function sendKeyFrame(sender) {
  for (const active of [false, true]) {
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings) encoding.active = active;
    await sender.setParameters(parameters);
  }
}
