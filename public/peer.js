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
 * ICE restarts automatically, with new servers, when the connection fails. Only the impolite
 * peer restarts it; the polite peer sends a request. watched-peer.js detects dead paths earlier.
 */

import {StatefulTarget, emit, on, serial} from './events.js';

/** Milliseconds to collect candidates before they are sent as one signal. */
const BATCH_DELAY = 100;
/** Maximum number of remote candidates that wait for a description. */
const MAX_EARLY_CANDIDATES = 256;
/** Milliseconds that a connection can be disconnected before ICE restarts. */
const TOLERANCE = 3_000;
/** Milliseconds that a restart has to succeed before the next one. */
const ATTEMPT_TIME = 8_000;

/**
 * @typedef {{track: MediaStreamTrack, streams: readonly MediaStream[]}} RemoteTrack
 * @typedef {{state: CustomEvent<State>, path: CustomEvent<'direct'|'relayed'>, track: CustomEvent<RemoteTrack>,
 *   error: CustomEvent<any>}} PeerEvents
 */

/**
 * Signal is a message to the remote peer:
 * - call identifies the call; n numbers the signals of a peer within the call, from 1
 * - description is an offer or an answer; answers is the n of the answered offer
 * - candidates are ICE candidates of the last description
 * - restart requests an ICE restart from the impolite peer
 * - sending states whether the peer sends live media at this time, see watched-peer.js
 * @typedef {{call: string, n: number, sending?: boolean, description?: RTCSessionDescriptionInit, answers?: number,
 *   candidates?: RTCIceCandidateInit[], restart?: boolean}} Signal
 * @typedef {Omit<Signal, 'call' | 'n'>} SignalContent
 * @typedef {'connecting'|'connected'|'reconnecting'|'closed'} State
 *
 * @typedef {object} PeerOptions
 * @property {string} call the id of the call, equal on both sides and unique
 * @property {boolean} polite true on exactly one side
 * @property {(signal: Signal) => void} send sends a signal to the remote peer
 * @property {RTCIceServer[] | undefined} [iceServers]
 * @property {(() => Promise<RTCIceServer[]>) | undefined} [fetchIceServers] called before each ICE restart, because
 *   credentials expire; without it, the call keeps its servers
 * @property {RTCIceTransportPolicy | undefined} [iceTransportPolicy] 'relay' uses TURN servers only, so that the remote
 *   peer does not learn the addresses of this device; a call without a TURN server then never connects.
 *   The default is 'all'
 * @property {((configuration: RTCConfiguration) => RTCPeerConnection) | undefined} [connect] creates the connection, where
 *   it is not that of a browser
 */

/**
 * Peer is one side of a call. Events, all with a `detail`:
 * - state: the new {@link State}
 * - track: the {track, streams} of a remote track
 * - error: an Error during negotiation; the connection can still succeed
 */
export class Peer extends /** @type {import('./events.js').TypedStateful<State, PeerEvents>} */ (/** @type {unknown} */ (StatefulTarget)) {
  /** The id of the call. */
  call;
  /** The RTCPeerConnection, whose data channels are those of the application. */
  connection;
  /** The local transceivers, by kind. @type {Map<string, RTCRtpTransceiver>} @internal */
  transceivers = new Map();
  /** @type {RTCIceCandidateInit[]} local candidates that are not sent yet */
  #batch = [];
  /** @type {RTCIceCandidateInit[]} remote candidates that arrived before a description */
  #earlyCandidates = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #batchTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;
  /** When this side has restarted ICE, or requested it, in milliseconds. */
  #restartedAt = 0;
  #signalingOpen = true;
  /** Serializes the handling of signals. */
  #serialize = serial();
  /** The number of restarts on both sides. */
  #restartCount = 0;
  #lastSent = 0;
  #lastReceived = 0;
  /** The number of the signal with the last offer. */
  #lastOffer = 0;
  #makingOffer = false;
  #ignoredOffer = false;
  /** Tracks of the polite peer, before it knows the transceivers. @type {Map<string, MediaStreamTrack | null>} */
  #earlyTracks = new Map();
  /** The stream of the tracks: the remote peer plays tracks of one stream in sync. */
  #streams = globalThis.MediaStream ? [new MediaStream()] : [];
  #options;

  /** @param {PeerOptions} options */
  constructor(options) {
    super();
    const {call, iceServers, iceTransportPolicy, connect = configuration => new RTCPeerConnection(configuration)} = options;
    this.call = call;
    this.#options = options;
    const connection = connect({iceServers, iceTransportPolicy});
    this.connection = connection;
    on(connection, 'negotiationneeded', () => this.#sendOffer());
    on(connection, 'icecandidate', ({candidate}) => this.#onCandidate(candidate));
    on(connection, 'connectionstatechange', () => this.#onConnectionStateChange());
    on(connection, 'track', ({track, streams}) => emit(this, 'track', {track, streams}));
  }

  /**
   * Reports whether the signaling channel works. During an outage ICE is not
   * restarted. A channel without reports counts as working.
   * @param {boolean} open
   */
  setSignaling(open) {
    this.#signalingOpen = open;
    if (open && this.state === 'reconnecting') this.#restartIn(0);
  }

  /**
   * Sends a track in place of the previous track of its kind; null stops sending.
   * Only the first track of a kind needs a negotiation: the polite peer sends over the
   * transceivers of the first offer, for which the impolite peer must call setTrack for each kind.
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track
   * @returns {Promise<void>}
   */
  async setTrack(kind, track) {
    const transceiver = this.transceivers.get(kind);
    if (transceiver) return transceiver.sender.replaceTrack(track);
    if (this.#options.polite && !this.connection.remoteDescription) this.#earlyTracks.set(kind, track);
    else this.addTransceiver(kind, track, 'sendrecv');
  }

  /**
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track
   * @param {RTCRtpTransceiverDirection} direction
   * @internal
   */
  addTransceiver(kind, track, direction) {
    this.transceivers.set(kind, this.connection.addTransceiver(track ?? kind, {direction, streams: this.#streams}));
  }

  /** Sends over the transceivers of the remote offer. @internal */
  async adoptTransceivers() {
    for (const transceiver of this.connection.getTransceivers()) {
      const {sender, receiver: {track: {kind}}} = transceiver;
      if (this.transceivers.has(kind)) continue;
      this.transceivers.set(kind, transceiver);
      transceiver.direction = 'sendrecv';
      sender.setStreams?.(...this.#streams);
      await sender.replaceTrack(this.#earlyTracks.get(kind) ?? null);
    }
  }

  /** Returns the statistics of the connection. */
  getStats() {
    return this.connection.getStats();
  }

  /**
   * Handles a signal from the remote peer. Signals of other calls, duplicates
   * and late signals are dropped.
   * @param {Signal} signal
   */
  receive(signal) {
    return this.#enqueue(async () => {
      if (signal.call !== this.call || !(signal.n > this.#lastReceived)) return;
      this.#lastReceived = signal.n;
      this.onSignal(signal);
      if (signal.description) await this.#setRemoteDescription(signal.description, signal);
      await this.#addCandidates(signal.candidates ?? []);
    });
  }

  /** @param {() => Promise<void>} handle */
  #enqueue(handle) {
    return this.#serialize(async () => this.state !== 'closed' && handle()).catch(error => this.emitError(error));
  }

  /** Closes the connection. The remote peer is not notified. */
  close() {
    clearTimeout(this.#batchTimer);
    clearTimeout(this.#restartTimer);
    this.connection.close();
    this.setState('closed');
  }

  async #sendOffer() {
    try {
      this.#makingOffer = true;
      await this.connection.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      this.emitError(error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /**
   * @param {RTCSessionDescriptionInit} description
   * @param {Signal} signal
   */
  async #setRemoteDescription(description, {n, answers = this.#lastOffer}) {
    const {connection} = this;
    const isOffer = description.type === 'offer';
    const stable = connection.signalingState === 'stable';
    if (!isOffer && (stable || answers !== this.#lastOffer)) return; // its offer was rolled back
    this.#ignoredOffer = isOffer && !this.#options.polite && (this.#makingOffer || !stable);
    if (this.#ignoredOffer) return;
    const last = connection.remoteDescription;
    await connection.setRemoteDescription(description); // rolls back the local offer if necessary
    await this.#addCandidates(this.#earlyCandidates.splice(0));
    if (!isOffer) return;
    await this.adoptTransceivers();
    if (last) await this.onRemoteRestart(last, description);
    await connection.setLocalDescription();
    this.#sendDescription(n);
  }

  /** @param {RTCIceCandidateInit[]} candidates */
  async #addCandidates(candidates) {
    if (!this.connection.remoteDescription) {
      if (!this.#ignoredOffer) this.#earlyCandidates = [...this.#earlyCandidates, ...candidates].slice(0, MAX_EARLY_CANDIDATES);
      return;
    }
    for (const candidate of candidates) {
      await this.connection.addIceCandidate(candidate).catch(error => {
        if (!this.#ignoredOffer) this.emitError(error); // else it belongs to the ignored offer
      });
    }
  }

  /** @param {number} [answers] the number of the signal with the offer that the description answers */
  #sendDescription(answers) {
    const localDescription = /** @type {RTCSessionDescription} */ (this.connection.localDescription);
    this.#flush(); // pending candidates belong to the previous description
    this.sendSignal({description: localDescription.toJSON(), answers});
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
    if (this.#batch.length > 0) this.sendSignal({candidates: this.#batch.splice(0)});
  }

  /** @param {SignalContent} content @internal */
  sendSignal(content) {
    if (this.state !== 'closed') this.#options.send({call: this.call, n: ++this.#lastSent, ...content});
  }

  #onConnectionStateChange() {
    const {connectionState} = this.connection;
    if (this.state === 'closed') return;
    if (connectionState === 'connected') this.setState(connectionState);
    if (connectionState === 'failed' || connectionState === 'disconnected') this.setState('reconnecting');
    this.onConnectionState(connectionState);
  }

  /** @param {RTCPeerConnectionState} state @internal */
  onConnectionState(state) {
    if (state === 'failed') this.#restartIn(0);
    if (state === 'disconnected') this.#restartIn(TOLERANCE);
    if (state === 'connected') clearTimeout(this.#restartTimer);
  }

  /** @param {Signal} signal @internal */
  onSignal({restart}) {
    if (restart && !this.#options.polite) this.#restartIn(0);
  }

  /**
   * Restarts ICE, again and again until the connection is restored, unless the last restart can
   * still succeed.
   * @param {number} delay milliseconds
   */
  #restartIn(delay) {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => {
      if (this.state !== 'connected') this.#restartIn(ATTEMPT_TIME);
      if (this.#signalingOpen) {
        this.#restartedAt = Date.now();
        this.restart();
      }
    }, Math.max(delay, this.#restartedAt + ATTEMPT_TIME - Date.now()));
  }

  /** Restarts ICE, or requests it from the impolite peer. @internal */
  restart() {
    if (this.#options.polite) this.sendSignal({restart: true});
    else void this.#restartIce();
  }

  /**
   * Restarts ICE with new servers. An offer without an answer is rolled back,
   * because the offer or its answer can be lost.
   */
  async #restartIce() {
    const {connection} = this;
    if (!await this.#updateIceServers()) return;
    void this.#enqueue(async () => {
      if (connection.signalingState !== 'stable') await connection.setLocalDescription({type: 'rollback'});
      connection.restartIce();
    });
  }

  /**
   * Fetches servers for the candidates that follow the answer to an offer, which can restart ICE.
   * @param {RTCSessionDescriptionInit} _last the offer before, or its answer
   * @param {RTCSessionDescriptionInit} _offer
   * @internal
   */
  async onRemoteRestart(_last, _offer) {
    await this.#updateIceServers();
  }

  /**
   * Fetches the ICE servers for a restart. If that fails, or the browser rejects them, the
   * connection keeps the last ones. Returns false if another restart has begun in the meantime.
   */
  async #updateIceServers() {
    const {fetchIceServers, iceTransportPolicy} = this.#options;
    const number = ++this.#restartCount;
    const isCurrent = () => this.state !== 'closed' && number === this.#restartCount;
    await fetchIceServers?.()
      .then(iceServers => isCurrent() && this.configure({iceServers, iceTransportPolicy}))
      .catch(error => this.emitError(error));
    return isCurrent();
  }

  /** @param {RTCConfiguration} configuration @internal */
  configure(configuration) {
    this.connection.setConfiguration(configuration);
  }

  /** @param {unknown} error @internal */
  emitError(error) {
    if (this.state !== 'closed') emit(this, 'error', error);
  }
}
