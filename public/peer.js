/**
 * One call between two peers by perfect negotiation, over anything that can
 * carry small objects both ways. It knows no URL and no mailbox:
 *
 *     const peer = new Peer({call, polite, iceServers, send: signal => …});
 *     peer.receive(signal);                     // whatever the other side's send was given
 *     peer.setTrack('video', track);
 *     peer.addEventListener('track', event => … event.detail.track …);
 *
 * One side is polite and gives way when both make an offer at once. Signals
 * may be lost with their call, come late or come twice, but each side's come
 * in order.
 */

/** Milliseconds to gather candidates before they are sent together. */
const BATCH_DELAY = 100;
/** Milliseconds a broken connection is given to mend by itself. */
const RESTART_DELAY = 2_000;

/**
 * @typedef {{call: string, n: number, description?: RTCSessionDescriptionInit, candidates?: RTCIceCandidateInit[]}} Signal
 *   call tells one call from the next; n counts a side's signals within it.
 * @typedef {'connecting'|'connected'|'reconnecting'|'closed'} State
 */

/**
 * Events, with a `detail`:
 * - state: a {@link State}, whenever it changes
 * - track: {track, streams} that came from the other side
 * - error: an Error of negotiation; the connection may still come about
 */
export class Peer extends EventTarget {
  /** @type {State} */
  #state = 'connecting';
  /** @type {Map<string, RTCRtpTransceiver>} what we send, by kind */
  #transceivers = new Map();
  /** @type {RTCIceCandidateInit[]} ours, to be sent together */
  #batch = [];
  /** @type {RTCIceCandidateInit[]} theirs, that came before a description */
  #earlyCandidates = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #batchTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;
  /** Signals are taken one after the other, as they came. */
  #queue = Promise.resolve();
  #lastSent = 0;
  #lastReceived = 0;
  #makingOffer = false;
  #ignoredOffer = false;
  #connection;
  #call;
  #polite;
  #send;

  /**
   * @param {object} options
   * @param {string} options.call the same on both sides, and new for each call
   * @param {boolean} options.polite true on exactly one side
   * @param {(signal: Signal) => void} options.send carries a signal to the other side
   * @param {RTCIceServer[]} [options.iceServers]
   * @param {(configuration: RTCConfiguration) => RTCPeerConnection} [options.connect] for tests
   */
  constructor({call, polite, send, iceServers = [], connect = configuration => new RTCPeerConnection(configuration)}) {
    super();
    this.#call = call;
    this.#polite = polite;
    this.#send = send;
    this.#connection = connect({iceServers});
    this.#addListeners();
  }

  get call() {
    return this.#call;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * Sends a track, in place of the one of this kind that was sent before; null
   * sends nothing. Only the first of a kind costs a negotiation.
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track
   */
  setTrack(kind, track) {
    const transceiver = this.#transceivers.get(kind);
    if (transceiver) return transceiver.sender.replaceTrack(track);
    this.#transceivers.set(kind, this.#connection.addTransceiver(track ?? kind, {direction: 'sendonly'}));
    return Promise.resolve();
  }

  /**
   * Takes a signal of the other side. Those of another call, and those that
   * came before, are dropped.
   * @param {Signal} signal
   */
  receive(signal) {
    this.#queue = this.#queue.then(async () => {
      if (this.#state === 'closed' || signal.call !== this.#call || !(signal.n > this.#lastReceived)) return;
      this.#lastReceived = signal.n;
      if (signal.description) await this.#setRemoteDescription(signal.description);
      await this.#addCandidates(signal.candidates ?? []);
    }).catch(error => this.#emitError(error));
    return this.#queue;
  }

  /** Ends the call. The other side sees a broken connection, or is told by other means. */
  close() {
    clearTimeout(this.#batchTimer);
    clearTimeout(this.#restartTimer);
    this.#connection.close();
    this.#setState('closed');
  }

  #addListeners() {
    const connection = this.#connection;
    connection.addEventListener('negotiationneeded', () => this.#sendOffer());
    connection.addEventListener('icecandidate', ({candidate}) => this.#onCandidate(candidate));
    connection.addEventListener('connectionstatechange', () => this.#onConnectionStateChange());
    connection.addEventListener('track', ({track, streams}) =>
      this.dispatchEvent(new CustomEvent('track', {detail: {track, streams}})));
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

  /** @param {RTCSessionDescriptionInit} description */
  async #setRemoteDescription(description) {
    const stable = this.#connection.signalingState === 'stable';
    if (description.type === 'answer' && stable) return; // to an offer that was rolled back
    const collision = description.type === 'offer' && (this.#makingOffer || !stable);
    this.#ignoredOffer = collision && !this.#polite;
    if (this.#ignoredOffer) return;
    await this.#connection.setRemoteDescription(description); // rolls our own offer back when it must
    const early = this.#earlyCandidates.splice(0);
    await this.#addCandidates(early);
    if (description.type !== 'offer') return;
    await this.#connection.setLocalDescription();
    this.#sendDescription();
  }

  /** @param {RTCIceCandidateInit[]} candidates */
  async #addCandidates(candidates) {
    if (!this.#connection.remoteDescription) {
      if (!this.#ignoredOffer) this.#earlyCandidates.push(...candidates);
      return;
    }
    for (const candidate of candidates) {
      await this.#connection.addIceCandidate(candidate).catch(error => {
        if (!this.#ignoredOffer) this.#emitError(error); // else it belongs to the offer we ignored
      });
    }
  }

  #sendDescription() {
    const {localDescription} = this.#connection;
    if (!localDescription) return;
    this.#flush(); // candidates before a new description belong to the one before
    this.#sendSignal({description: {type: localDescription.type, sdp: localDescription.sdp}});
  }

  /**
   * Candidates come in bursts; one message for each would be a flood.
   * @param {RTCIceCandidate | null} candidate
   */
  #onCandidate(candidate) {
    if (!candidate || !candidate.candidate) return; // the end of gathering says nothing we use
    this.#batch.push(candidate.toJSON());
    this.#batchTimer ??= setTimeout(() => this.#flush(), BATCH_DELAY);
  }

  #flush() {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    if (this.#batch.length > 0) this.#sendSignal({candidates: this.#batch.splice(0)});
  }

  /** @param {Omit<Signal, 'call' | 'n'>} content */
  #sendSignal(content) {
    if (this.#state !== 'closed') this.#send({call: this.#call, n: ++this.#lastSent, ...content});
  }

  #onConnectionStateChange() {
    const {connectionState} = this.#connection;
    if (connectionState === 'connected') {
      clearTimeout(this.#restartTimer);
      this.#setState('connected');
    } else if (connectionState === 'failed') {
      this.#scheduleRestart(0);
    } else if (connectionState === 'disconnected') {
      this.#scheduleRestart(RESTART_DELAY);
    }
  }

  /** @param {number} delay milliseconds */
  #scheduleRestart(delay) {
    this.#setState('reconnecting');
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => this.#connection.restartIce(), delay);
  }

  /** @param {State} state */
  #setState(state) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /** @param {unknown} error */
  #emitError(error) {
    if (this.#state !== 'closed') this.dispatchEvent(new CustomEvent('error', {detail: error}));
  }
}
