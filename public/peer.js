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
const BATCH = 100;
/** Milliseconds a broken connection is given to mend by itself. */
const PATIENCE = 2_000;

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
  #sending = new Map();
  /** @type {RTCIceCandidateInit[]} ours, to be sent together */
  #batch = [];
  /** @type {RTCIceCandidateInit[]} theirs, that came before a description */
  #early = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #batchTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #mendTimer;
  /** Signals are taken one after the other, as they came. */
  #work = Promise.resolve();
  #sent = 0;
  #received = 0;
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
    this.#listen();
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
    const sending = this.#sending.get(kind);
    if (sending) return sending.sender.replaceTrack(track);
    this.#sending.set(kind, this.#connection.addTransceiver(track ?? kind, {direction: 'sendonly'}));
    return Promise.resolve();
  }

  /**
   * Takes a signal of the other side. Those of another call, and those that
   * came before, are dropped.
   * @param {Signal} signal
   */
  receive(signal) {
    this.#work = this.#work.then(async () => {
      if (this.#state === 'closed' || signal.call !== this.#call || !(signal.n > this.#received)) return;
      this.#received = signal.n;
      if (signal.description) await this.#describe(signal.description);
      await this.#addCandidates(signal.candidates ?? []);
    }).catch(error => this.#complain(error));
    return this.#work;
  }

  /** Ends the call. The other side sees a broken connection, or is told by other means. */
  close() {
    clearTimeout(this.#batchTimer);
    clearTimeout(this.#mendTimer);
    this.#connection.close();
    this.#become('closed');
  }

  #listen() {
    const connection = this.#connection;
    connection.addEventListener('negotiationneeded', () => this.#offer());
    connection.addEventListener('icecandidate', ({candidate}) => this.#gather(candidate));
    connection.addEventListener('connectionstatechange', () => this.#follow());
    connection.addEventListener('track', ({track, streams}) =>
      this.dispatchEvent(new CustomEvent('track', {detail: {track, streams}})));
  }

  async #offer() {
    try {
      this.#makingOffer = true;
      await this.#connection.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      this.#complain(error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /** @param {RTCSessionDescriptionInit} description */
  async #describe(description) {
    const stable = this.#connection.signalingState === 'stable';
    if (description.type === 'answer' && stable) return; // to an offer that was rolled back
    const collision = description.type === 'offer' && (this.#makingOffer || !stable);
    this.#ignoredOffer = collision && !this.#polite;
    if (this.#ignoredOffer) return;
    await this.#connection.setRemoteDescription(description); // rolls our own offer back when it must
    const early = this.#early.splice(0);
    await this.#addCandidates(early);
    if (description.type !== 'offer') return;
    await this.#connection.setLocalDescription();
    this.#sendDescription();
  }

  /** @param {RTCIceCandidateInit[]} candidates */
  async #addCandidates(candidates) {
    if (!this.#connection.remoteDescription) {
      if (!this.#ignoredOffer) this.#early.push(...candidates);
      return;
    }
    for (const candidate of candidates) {
      await this.#connection.addIceCandidate(candidate).catch(error => {
        if (!this.#ignoredOffer) this.#complain(error); // else it belongs to the offer we ignored
      });
    }
  }

  #sendDescription() {
    const {localDescription} = this.#connection;
    if (!localDescription) return;
    this.#flush(); // candidates before a new description belong to the one before
    this.#signal({description: {type: localDescription.type, sdp: localDescription.sdp}});
  }

  /**
   * Candidates come in bursts; one message for each would be a flood.
   * @param {RTCIceCandidate | null} candidate
   */
  #gather(candidate) {
    if (!candidate || !candidate.candidate) return; // the end of gathering says nothing we use
    this.#batch.push(candidate.toJSON());
    this.#batchTimer ??= setTimeout(() => this.#flush(), BATCH);
  }

  #flush() {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    if (this.#batch.length > 0) this.#signal({candidates: this.#batch.splice(0)});
  }

  /** @param {Omit<Signal, 'call' | 'n'>} content */
  #signal(content) {
    if (this.#state !== 'closed') this.#send({call: this.#call, n: ++this.#sent, ...content});
  }

  #follow() {
    const {connectionState} = this.#connection;
    if (connectionState === 'connected') {
      clearTimeout(this.#mendTimer);
      this.#become('connected');
    } else if (connectionState === 'failed') {
      this.#mend(0);
    } else if (connectionState === 'disconnected') {
      this.#mend(PATIENCE);
    }
  }

  /** @param {number} after milliseconds */
  #mend(after) {
    this.#become('reconnecting');
    clearTimeout(this.#mendTimer);
    this.#mendTimer = setTimeout(() => this.#connection.restartIce(), after);
  }

  /** @param {State} state */
  #become(state) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /** @param {unknown} error */
  #complain(error) {
    if (this.#state !== 'closed') this.dispatchEvent(new CustomEvent('error', {detail: error}));
  }
}
