/** A fake RTCPeerConnection that implements negotiation without a network. */

let offers = 0;

export class FakeConnection extends EventTarget {
  /** @type {RTCSignalingState} */
  signalingState = 'stable';
  /** @type {RTCPeerConnectionState} */
  connectionState = 'new';
  /** @type {{type: RTCSdpType, sdp: string} | null} */
  localDescription = null;
  /** @type {{type: RTCSdpType, sdp: string} | null} */
  remoteDescription = null;
  /** @type {RTCIceCandidateInit[]} */
  candidates = [];
  /** @type {FakeTransceiver[]} */
  transceivers = [];
  restarts = 0;
  rollbacks = 0;
  closed = false;
  #negotiationNeeded = false;
  #negotiationScheduled = false;

  /** @param {RTCConfiguration} configuration */
  constructor(configuration) {
    super();
    this.configuration = configuration;
  }

  /** @param {string | {kind: string}} trackOrKind */
  addTransceiver(trackOrKind) {
    const transceiver = new FakeTransceiver(trackOrKind);
    this.transceivers.push(transceiver);
    this.#scheduleNegotiation();
    return transceiver;
  }

  restartIce() {
    this.restarts++;
    this.#scheduleNegotiation();
  }

  async setLocalDescription() {
    await undefined;
    if (this.signalingState === 'have-remote-offer') {
      this.localDescription = {type: 'answer', sdp: `answer to ${this.remoteDescription?.sdp}`};
      this.#becomeStable();
      return;
    }
    this.localDescription = {type: 'offer', sdp: `offer ${++offers}`};
    this.signalingState = 'have-local-offer';
    this.#negotiationNeeded = false;
  }

  /** @param {{type: RTCSdpType, sdp: string}} description */
  async setRemoteDescription(description) {
    await undefined;
    if (description.type === 'offer') {
      if (this.signalingState === 'have-local-offer') {
        this.rollbacks++;
        this.#negotiationNeeded = true;
      }
      this.remoteDescription = description;
      this.signalingState = 'have-remote-offer';
      return;
    }
    if (this.signalingState !== 'have-local-offer') throw new DOMException('answer without an offer', 'InvalidStateError');
    this.remoteDescription = description;
    this.#becomeStable();
  }

  /** @param {RTCIceCandidateInit} candidate */
  async addIceCandidate(candidate) {
    if (!this.remoteDescription) throw new DOMException('no remote description', 'InvalidStateError');
    if (candidate.candidate === 'bad') throw new DOMException('candidate of another ICE generation', 'OperationError');
    this.candidates.push(candidate);
  }

  close() {
    this.closed = true;
  }

  /** @param {string} candidate */
  emitCandidate(candidate) {
    this.dispatchEvent(Object.assign(new Event('icecandidate'), {candidate: {candidate, toJSON: () => ({candidate})}}));
  }

  /** @param {RTCPeerConnectionState} state */
  setConnectionState(state) {
    this.connectionState = state;
    this.dispatchEvent(new Event('connectionstatechange'));
  }

  #becomeStable() {
    this.signalingState = 'stable';
    if (this.#negotiationNeeded) this.#scheduleNegotiation();
  }

  /** Fires negotiationneeded once, asynchronously and only in the stable state, as browsers do. */
  #scheduleNegotiation() {
    this.#negotiationNeeded = true;
    if (this.#negotiationScheduled) return;
    this.#negotiationScheduled = true;
    queueMicrotask(() => {
      this.#negotiationScheduled = false;
      if (this.#negotiationNeeded && this.signalingState === 'stable') this.dispatchEvent(new Event('negotiationneeded'));
    });
  }
}

class FakeTransceiver {
  /** @param {unknown} trackOrKind */
  constructor(trackOrKind) {
    /** @type {unknown} */
    this.track = trackOrKind;
    this.sender = {replaceTrack: async (/** @type {unknown} */ track) => { this.track = track; }};
  }
}
