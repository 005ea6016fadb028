/**
 * One call between two peers by perfect negotiation, over any signaling channel
 * that carries JSON objects in both directions. It does not depend on inbox.js:
 *
 *     const peer = new Peer({call, polite, iceServers, fetchIceServers, send: signal => …});
 *     peer.receive(signal);                     // a signal that the remote peer sent
 *     peer.setTrack('video', track);
 *     peer.addEventListener('track', event => … event.detail.track …);
 *
 * The polite peer rolls its offer back when both peers send an offer at the same
 * time. The channel must keep the signals of a peer in order; it can delay and
 * duplicate them. A lost signal can fail the call.
 *
 * ICE restarts automatically, with new servers, when the path of the call is dead
 * (see ice-restart.js). Only the impolite peer restarts it; the polite peer sends
 * a request. In Firefox, a data channel can deliver nothing after a restart of a
 * path that was dead for half a minute. A call without media must detect this and
 * create a new call.
 */

import {emit, on} from './events.js';
import {RestartPolicy} from './ice-restart.js';
import {applyAccepted, connectWith} from './ice.js';
import {PathMonitor} from './path.js';

/** Milliseconds to collect candidates before they are sent as one signal. */
const BATCH_DELAY = 100;
/** Maximum number of remote candidates that wait for a description. */
const MAX_EARLY_CANDIDATES = 256;

/**
 * @typedef {import('./path.js').Path} Path
 * @typedef {{track: MediaStreamTrack, streams: readonly MediaStream[]}} RemoteTrack
 * @typedef {{state: CustomEvent<State>, path: CustomEvent<'direct'|'relayed'>, track: CustomEvent<RemoteTrack>,
 *   datachannel: CustomEvent<RTCDataChannel>, error: CustomEvent<any>}} PeerEvents
 */

/**
 * Signal is a message to the remote peer:
 * - call identifies the call; n numbers the signals of a peer within the call, from 1
 * - sending states whether the peer sends live media at this time
 * - description is an offer or an answer; answers is the n of the answered offer
 * - candidates are ICE candidates of the last description
 * - restart requests an ICE restart from the impolite peer
 * @typedef {{call: string, n: number, sending?: boolean, description?: RTCSessionDescriptionInit, answers?: number,
 *   candidates?: RTCIceCandidateInit[], restart?: boolean}} Signal
 * @typedef {'connecting'|'connected'|'reconnecting'|'closed'} State
 */

/**
 * Peer is one side of a call. Events, all with a `detail`:
 * - state: the new {@link State}
 * - path: 'direct' or 'relayed', when it is known and when it changes
 * - track: the {track, streams} of a remote track
 * - datachannel: an RTCDataChannel that the remote peer has created
 * - error: an Error during negotiation; the connection can still succeed
 */
export class Peer extends /** @type {import('./events.js').TypedTarget<PeerEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** The id of the call. */
  call;
  /** The URLs of the ICE servers that were left out, because the browser rejects them. */
  rejectedServers;
  /** @type {State} */
  #state = 'connecting';
  /** @type {Map<string, RTCRtpTransceiver>} the local transceivers, by kind */
  #transceivers = new Map();
  /** @type {RTCIceCandidateInit[]} local candidates that are not sent yet */
  #batch = [];
  /** @type {RTCIceCandidateInit[]} remote candidates that arrived before a description */
  #earlyCandidates = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #batchTimer;
  /** The dead path that a restart replaces, if any. @type {string | null} */
  #deadPath = null;
  /** @type {'direct'|'relayed'|undefined} */
  #pathKind;
  /** Serializes the handling of signals. */
  #queue = Promise.resolve();
  #restarts = new RestartPolicy();
  /** The number of restarts on both sides. */
  #restartCount = 0;
  #lastSent = 0;
  #lastReceived = 0;
  /** The number of the signal with the last offer. */
  #lastOffer = 0;
  /** The value of `sending` in the last signal. */
  #announcedSending = false;
  #makingOffer = false;
  #ignoredOffer = false;
  /** Whether this side sends over the transceivers of an offer. */
  #adopted = false;
  /** Tracks of the polite peer in a two-way call, before it knows the transceivers. @type {Map<string, MediaStreamTrack | null>} */
  #earlyTracks = new Map();
  /** The remote peer plays tracks of one stream in sync. */
  #stream = globalThis.MediaStream && new MediaStream();
  #connection;
  #monitor;
  #polite;
  #twoWay;
  #send;
  #iceTransportPolicy;
  #fetchIceServers;

  /**
   * @param {object} options
   * @param {string} options.call the id of the call, equal on both sides and unique
   * @param {boolean} options.polite true on exactly one side
   * @param {boolean | undefined} [options.twoWay] whether both peers send: the polite peer sends over the transceivers of the
   *   offer, which spares a second negotiation. Equal on both sides; the impolite peer must call setTrack for each kind
   * @param {(signal: Signal) => void} options.send sends a signal to the remote peer
   * @param {RTCIceServer[] | undefined} [options.iceServers] those that the browser rejects are left out
   * @param {(() => Promise<RTCIceServer[]>) | undefined} [options.fetchIceServers] called before each ICE restart, because
   *   credentials expire; without it, the call keeps its servers
   * @param {RTCIceTransportPolicy | undefined} [options.iceTransportPolicy] 'relay' uses TURN servers only, so that the remote
   *   peer does not learn the addresses of this device; a call without a TURN server then never connects.
   *   The default is 'all'
   * @param {((configuration: RTCConfiguration) => RTCPeerConnection) | undefined} [options.connect] creates the connection, where
   *   it is not that of a browser
   */
  constructor({call, polite, twoWay = false, send, iceServers = [], fetchIceServers, iceTransportPolicy = 'all', connect = configuration => new RTCPeerConnection(configuration)}) {
    super();
    this.call = call;
    this.#polite = polite;
    this.#twoWay = twoWay;
    this.#send = send;
    this.#iceTransportPolicy = iceTransportPolicy;
    this.#fetchIceServers = fetchIceServers;
    const {connection, rejected} = connectWith(list => connect(this.#configure(list)), iceServers);
    this.#connection = connection;
    this.#monitor = new PathMonitor(connection, path => this.#onCheck(path));
    this.rejectedServers = rejected;
    this.#addListeners();
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Whether a TURN server forwards the packets of the call, or did so when it was last connected. */
  get relayed() {
    return this.#restarts.relayed;
  }

  /**
   * Reports whether the signaling channel works. During an outage ICE is not
   * restarted. After it, a relayed call restarts ICE immediately, because the relay
   * is usually a part of the server that was unavailable. A channel without reports
   * counts as working.
   * @param {boolean} open
   */
  setSignaling(open) {
    this.#restarts.setSignaling(open);
    this.#checkRestart();
  }

  /**
   * Sends a track in place of the previous track of its kind; null stops sending.
   * Only the first track of a kind needs a negotiation.
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track
   */
  setTrack(kind, track) {
    const transceiver = this.#transceivers.get(kind);
    if (transceiver) return transceiver.sender.replaceTrack(track);
    if (this.#twoWay && this.#polite && !this.#adopted) this.#earlyTracks.set(kind, track);
    else this.#transceivers.set(kind, this.#addTransceiver(track ?? kind));
    return Promise.resolve();
  }

  /** @param {MediaStreamTrack | string} trackOrKind */
  #addTransceiver(trackOrKind) {
    const direction = this.#twoWay ? 'sendrecv' : 'sendonly';
    return this.#connection.addTransceiver(trackOrKind, {direction, streams: this.#stream ? [this.#stream] : []});
  }

  /** Sends over the transceivers of the remote offer. */
  async #adoptTransceivers() {
    this.#adopted = true;
    for (const transceiver of this.#connection.getTransceivers()) {
      const {kind} = transceiver.receiver.track;
      if (this.#transceivers.has(kind)) continue;
      this.#transceivers.set(kind, transceiver);
      transceiver.direction = 'sendrecv';
      if (this.#stream) transceiver.sender.setStreams?.(this.#stream);
      await transceiver.sender.replaceTrack(this.#earlyTracks.get(kind) ?? null);
    }
  }

  /**
   * Creates a data channel, as RTCPeerConnection does. data-channel.js sends messages of any size over it.
   * @param {string} label
   * @param {RTCDataChannelInit} [options]
   */
  createDataChannel(label, options) {
    return this.#connection.createDataChannel(label, options);
  }

  /** Returns the statistics of the connection. */
  getStats() {
    return this.#connection.getStats();
  }

  /**
   * Handles a signal from the remote peer. Signals of other calls, duplicates
   * and late signals are dropped.
   * @param {Signal} signal
   */
  receive(signal) {
    this.#queue = this.#queue.then(async () => {
      if (this.#state === 'closed' || signal.call !== this.call || !(signal.n > this.#lastReceived)) return;
      this.#lastReceived = signal.n;
      this.#restarts.remoteSending = signal.sending ?? false;
      if (signal.restart && !this.#polite) {
        this.#restarts.request(Date.now());
        this.#checkRestart();
      }
      if (signal.description) await this.#setRemoteDescription(signal.description, signal);
      await this.#addCandidates(signal.candidates ?? []);
    }).catch(error => this.#emitError(error));
    return this.#queue;
  }

  /** Closes the connection. The remote peer is not notified. */
  close() {
    clearTimeout(this.#batchTimer);
    this.#monitor.stop();
    this.#connection.close();
    this.#setState('closed');
  }

  #addListeners() {
    const connection = this.#connection;
    on(connection, 'negotiationneeded', () => this.#sendOffer());
    on(connection, 'icecandidate', ({candidate}) => this.#onCandidate(candidate));
    on(connection, 'connectionstatechange', () => this.#onConnectionStateChange());
    on(connection, 'track', ({track, streams}) => emit(this, 'track', {track, streams}));
    on(connection, 'datachannel', ({channel}) => emit(this, 'datachannel', channel));
  }

  async #sendOffer() {
    try {
      this.#makingOffer = true;
      await this.#connection.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      this.#emitError(error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /**
   * @param {RTCSessionDescriptionInit} description
   * @param {Signal} signal
   */
  async #setRemoteDescription(description, {n, answers = this.#lastOffer}) {
    const stable = this.#connection.signalingState === 'stable';
    if (description.type === 'answer' && (stable || answers !== this.#lastOffer)) return; // its offer was rolled back
    const collision = description.type === 'offer' && (this.#makingOffer || !stable);
    this.#ignoredOffer = collision && !this.#polite;
    if (this.#ignoredOffer) return;
    const last = this.#connection.remoteDescription;
    const restarted = last && iceUfrag(last) !== iceUfrag(description);
    await this.#connection.setRemoteDescription(description); // rolls back the local offer if necessary
    await this.#addCandidates(this.#earlyCandidates.splice(0));
    if (description.type !== 'offer') return;
    if (this.#twoWay) await this.#adoptTransceivers();
    if (restarted) await this.#onRemoteRestart();
    await this.#connection.setLocalDescription();
    this.#sendDescription(n);
  }

  /** Fetches servers for the candidates that follow the answer to an ICE restart. */
  async #onRemoteRestart() {
    this.#restarts.beginRemote(Date.now());
    this.#awaitPath();
    await this.#updateIceServers();
  }

  /** @param {RTCIceCandidateInit[]} candidates */
  async #addCandidates(candidates) {
    if (!this.#connection.remoteDescription) {
      const room = this.#ignoredOffer ? 0 : MAX_EARLY_CANDIDATES - this.#earlyCandidates.length;
      this.#earlyCandidates.push(...candidates.slice(0, room));
      return;
    }
    for (const candidate of candidates) {
      await this.#connection.addIceCandidate(candidate).catch(error => {
        if (!this.#ignoredOffer) this.#emitError(error); // else it belongs to the ignored offer
      });
    }
  }

  /** @param {number} [answers] the number of the signal with the offer that the description answers */
  #sendDescription(answers) {
    const {localDescription} = this.#connection;
    if (!localDescription) return;
    this.#flush(); // pending candidates belong to the previous description
    this.#sendSignal({description: {type: localDescription.type, sdp: localDescription.sdp}, answers});
    if (localDescription.type === 'offer') this.#lastOffer = this.#lastSent;
  }

  /**
   * Queues a local candidate. Candidates arrive in bursts, so they are sent in
   * batches.
   * @param {RTCIceCandidate | null} candidate
   */
  #onCandidate(candidate) {
    if (!candidate?.candidate) return; // end of gathering
    this.#batch.push(candidate.toJSON());
    this.#batchTimer ??= setTimeout(() => this.#flush(), BATCH_DELAY);
  }

  #flush() {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    if (this.#batch.length > 0) this.#sendSignal({candidates: this.#batch.splice(0)});
  }

  /** @param {Omit<Signal, 'call' | 'n' | 'sending'>} content */
  #sendSignal(content) {
    if (this.#state === 'closed') return;
    this.#announcedSending = this.#sending;
    this.#send({call: this.call, n: ++this.#lastSent, sending: this.#announcedSending, ...content});
  }

  /** Whether this peer sends live media. A track that is muted or disabled can send nothing for a while. */
  get #sending() {
    return [...this.#transceivers.values()].some(({sender: {track}}) =>
      track !== null && track.readyState === 'live' && track.enabled && !track.muted);
  }

  #onConnectionStateChange() {
    const {connectionState} = this.#connection;
    if (this.#state === 'closed') return;
    this.#restarts.setState(connectionState, Date.now());
    if (connectionState === 'connected') this.#setState('connected');
    if (connectionState === 'failed' || connectionState === 'disconnected') this.#setState('reconnecting');
    this.#monitor.start();
    this.#checkRestart();
  }

  /** @param {Path | null} path */
  #onCheck(path) {
    if (this.#state === 'closed') return;
    if (path) this.#onPath(path, Date.now());
    if (this.#sending !== this.#announcedSending) this.#sendSignal({});
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
    if (received || !this.#restarts.remoteSending) this.#setState('connected');
    else if (this.#restarts.silent(now)) this.#setState('reconnecting');
    if (this.#deadPath !== null && this.#deadPath !== path.id) this.#onPathReplaced();
    const kind = path.relayed ? 'relayed' : 'direct';
    if (this.#pathKind !== kind) emit(this, 'path', this.#pathKind = kind);
  }

  /** Restarts ICE, or requests it from the impolite peer, if a restart is due. */
  #checkRestart() {
    const now = Date.now();
    if (this.#state === 'closed' || !this.#restarts.due(now)) return;
    this.#restarts.begin(now);
    this.#awaitPath();
    if (this.#polite) this.#sendSignal({restart: true});
    else void this.#restartIce();
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
    const {sender} = this.#transceivers.get('video') ?? {};
    if (sender?.track) sendKeyFrame(sender).catch(error => this.#emitError(error));
  }

  /**
   * Restarts ICE with new servers. An offer without an answer is rolled back,
   * because the offer or its answer can be lost.
   */
  async #restartIce() {
    if (!await this.#updateIceServers()) return;
    this.#queue = this.#queue.then(async () => {
      if (this.#state === 'closed') return;
      if (this.#connection.signalingState === 'have-local-offer') await this.#connection.setLocalDescription({type: 'rollback'});
      this.#connection.restartIce();
    }).catch(error => this.#emitError(error));
  }

  /**
   * Fetches the ICE servers for a restart. If that fails, the connection keeps the
   * last ones. Returns false if another restart has begun in the meantime.
   */
  async #updateIceServers() {
    const number = ++this.#restartCount;
    const servers = await this.#fetchIceServers?.().catch(error => this.#emitError(error));
    if (this.#state === 'closed' || number !== this.#restartCount) return false;
    if (servers) this.rejectedServers = applyAccepted(list => this.#connection.setConfiguration(this.#configure(list)), servers);
    return true;
  }

  /**
   * @param {RTCIceServer[]} iceServers
   * @returns {RTCConfiguration}
   */
  #configure(iceServers) {
    return {iceServers, iceTransportPolicy: this.#iceTransportPolicy};
  }

  /** @param {State} state */
  #setState(state) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    emit(this, 'state', state);
  }

  /** @param {unknown} error */
  #emitError(error) {
    if (this.#state !== 'closed') emit(this, 'error', error);
  }
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

/**
 * Returns the username fragment of a description. An offer that restarts ICE has another one.
 * @param {RTCSessionDescriptionInit} description
 */
function iceUfrag({sdp = ''}) {
  return /^a=ice-ufrag:(\S*)/m.exec(sdp)?.[1];
}
