/** As much of an RTCPeerConnection as negotiation needs, without a network. */

let made = 0;

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
  #needed = false;
  #pending = false;

  /** @param {RTCConfiguration} configuration */
  constructor(configuration) {
    super();
    this.configuration = configuration;
  }

  /** @param {string | {kind: string}} trackOrKind */
  addTransceiver(trackOrKind) {
    const transceiver = new FakeTransceiver(trackOrKind);
    this.transceivers.push(transceiver);
    this.#need();
    return transceiver;
  }

  restartIce() {
    this.restarts++;
    this.#need();
  }

  async setLocalDescription() {
    await undefined;
    if (this.signalingState === 'have-remote-offer') {
      this.localDescription = {type: 'answer', sdp: `answer to ${this.remoteDescription?.sdp}`};
      this.#settle();
      return;
    }
    this.localDescription = {type: 'offer', sdp: `offer ${++made}`};
    this.signalingState = 'have-local-offer';
    this.#needed = false;
  }

  /** @param {{type: RTCSdpType, sdp: string}} description */
  async setRemoteDescription(description) {
    await undefined;
    if (description.type === 'offer') {
      if (this.signalingState === 'have-local-offer') {
        this.rollbacks++;
        this.#needed = true;
      }
      this.remoteDescription = description;
      this.signalingState = 'have-remote-offer';
      return;
    }
    if (this.signalingState !== 'have-local-offer') throw new DOMException('an answer without an offer', 'InvalidStateError');
    this.remoteDescription = description;
    this.#settle();
  }

  /** @param {RTCIceCandidateInit} candidate */
  async addIceCandidate(candidate) {
    if (!this.remoteDescription) throw new DOMException('no remote description', 'InvalidStateError');
    if (candidate.candidate === 'bad') throw new DOMException('of another generation', 'OperationError');
    this.candidates.push(candidate);
  }

  close() {
    this.closed = true;
  }

  /** @param {string} candidate */
  find(candidate) {
    this.dispatchEvent(Object.assign(new Event('icecandidate'), {candidate: {candidate, toJSON: () => ({candidate})}}));
  }

  /** @param {RTCPeerConnectionState} state */
  turn(state) {
    this.connectionState = state;
    this.dispatchEvent(new Event('connectionstatechange'));
  }

  #settle() {
    this.signalingState = 'stable';
    if (this.#needed) this.#need();
  }

  /** As browsers do: once, later, and only while stable. */
  #need() {
    this.#needed = true;
    if (this.#pending) return;
    this.#pending = true;
    queueMicrotask(() => {
      this.#pending = false;
      if (this.#needed && this.signalingState === 'stable') this.dispatchEvent(new Event('negotiationneeded'));
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
