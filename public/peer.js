/**
 * One call between two peers by perfect negotiation, over any signaling channel
 * that carries JSON objects in both directions. It does not depend on inbox.js:
 *
 *     const peer = new Peer({call, polite, iceServers, send: signal => …});
 *     peer.receive(signal);                     // a signal that the remote peer sent
 *     peer.setTrack('video', track);
 *     peer.addEventListener('track', event => … event.detail.track …);
 *
 * The polite peer rolls its offer back when both peers send an offer at the same
 * time. The channel must keep the signals of a peer in order; it can delay and
 * duplicate them. A lost signal can fail the call.
 */

import {connectWith} from './ice.js';

/** Milliseconds to collect candidates before they are sent as one signal. */
const BATCH_DELAY = 100;
/** Milliseconds a disconnected connection has to recover before ICE restarts. */
const RESTART_DELAY = 2_000;

/**
 * @typedef {{call: string, n: number, description?: RTCSessionDescriptionInit, candidates?: RTCIceCandidateInit[]}} Signal
 *   call identifies the call; n numbers the signals of a peer within the call, from 1.
 * @typedef {'connecting'|'connected'|'reconnecting'|'closed'} State
 */

/**
 * Peer is one side of a call. Events, all with a `detail`:
 * - state: the new {@link State}
 * - track: the {track, streams} of a remote track
 * - error: an Error during negotiation; the connection can still succeed
 */
export class Peer extends EventTarget {
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
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;
  /** Serializes the handling of signals. */
  #queue = Promise.resolve();
  #lastSent = 0;
  #lastReceived = 0;
  #makingOffer = false;
  #ignoredOffer = false;
  #connection;
  #rejectedServers;
  #call;
  #polite;
  #send;

  /**
   * @param {object} options
   * @param {string} options.call the id of the call, equal on both sides and unique
   * @param {boolean} options.polite true on exactly one side
   * @param {(signal: Signal) => void} options.send sends a signal to the remote peer
   * @param {RTCIceServer[]} [options.iceServers] those that the browser rejects are left out
   * @param {(configuration: RTCConfiguration) => RTCPeerConnection} [options.connect] for tests
   */
  constructor({call, polite, send, iceServers = [], connect = configuration => new RTCPeerConnection(configuration)}) {
    super();
    this.#call = call;
    this.#polite = polite;
    this.#send = send;
    const {connection, rejected} = connectWith(connect, iceServers);
    this.#connection = connection;
    this.#rejectedServers = rejected;
    this.#addListeners();
  }

  get call() {
    return this.#call;
  }

  /** The URLs of the ICE servers that were left out, because the browser rejects them. */
  get rejectedServers() {
    return this.#rejectedServers;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
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
    this.#transceivers.set(kind, this.#connection.addTransceiver(track ?? kind, {direction: 'sendonly'}));
    return Promise.resolve();
  }

  /**
   * Handles a signal from the remote peer. Signals of other calls, duplicates
   * and late signals are dropped.
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

  /** Closes the connection. The remote peer is not notified. */
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
    if (description.type === 'answer' && stable) return; // the answer to an offer that was rolled back
    const collision = description.type === 'offer' && (this.#makingOffer || !stable);
    this.#ignoredOffer = collision && !this.#polite;
    if (this.#ignoredOffer) return;
    await this.#connection.setRemoteDescription(description); // rolls back the local offer if necessary
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
        if (!this.#ignoredOffer) this.#emitError(error); // else it belongs to the ignored offer
      });
    }
  }

  #sendDescription() {
    const {localDescription} = this.#connection;
    if (!localDescription) return;
    this.#flush(); // pending candidates belong to the previous description
    this.#sendSignal({description: {type: localDescription.type, sdp: localDescription.sdp}});
  }

  /**
   * Queues a local candidate. Candidates arrive in bursts, so they are sent in
   * batches.
   * @param {RTCIceCandidate | null} candidate
   */
  #onCandidate(candidate) {
    if (!candidate || !candidate.candidate) return; // end of gathering
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

  /**
   * Schedules an ICE restart.
   * @param {number} delay milliseconds
   */
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
