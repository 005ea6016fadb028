/** A fake RTCPeerConnection that implements negotiation without a network. */

import {FakeChannel} from './fakechannel.js';

let offers = 0;
let generations = 0;

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
  /** The kinds of the transceivers that a remote offer creates. @type {string[]} */
  remoteKinds = [];
  /** The data channels of both sides. @type {FakeChannel[]} */
  channels = [];
  /** The connection of the other side. @type {FakeConnection | null} */
  peer = null;
  restarts = 0;
  rollbacks = 0;
  closed = false;
  /** The entries of getStats. @type {({id: string, type: string} & Record<string, unknown>)[]} */
  stats = [];
  /** The local ICE username fragment. */
  #ufrag = `u${++generations}`;
  #restartNeeded = false;
  #negotiationNeeded = false;
  #negotiationScheduled = false;

  /** @param {RTCConfiguration} configuration */
  constructor(configuration) {
    super();
    this.configuration = configuration;
  }

  /** @param {string | {kind: string}} trackOrKind @param {{direction?: string}} [init] */
  addTransceiver(trackOrKind, {direction = 'sendrecv'} = {}) {
    const transceiver = new FakeTransceiver(trackOrKind, direction);
    this.transceivers.push(transceiver);
    this.#scheduleNegotiation();
    return transceiver;
  }

  /** @param {string} label @param {{protocol?: string, negotiated?: boolean}} [init] */
  createDataChannel(label, {protocol = '', negotiated = false} = {}) {
    if (this.closed) throw new DOMException('closed', 'InvalidStateError');
    const channel = Object.assign(new FakeChannel(), {label, protocol, negotiated});
    this.channels.push(channel);
    if (!this.remoteDescription) this.#scheduleNegotiation();
    return channel;
  }

  /** The other side has created a channel. @param {string} label @param {string} protocol */
  announce(label, protocol) {
    const channel = Object.assign(new FakeChannel(), {label, protocol});
    this.channels.push(channel);
    this.dispatchEvent(Object.assign(new Event('datachannel'), {channel}));
    return channel;
  }

  getTransceivers() {
    return this.transceivers;
  }

  restartIce() {
    this.restarts++;
    this.#restartNeeded = true;
    this.#scheduleNegotiation();
  }

  /** @param {RTCConfiguration} configuration */
  setConfiguration(configuration) {
    if (this.closed) throw new DOMException('closed', 'InvalidStateError');
    this.configuration = configuration;
  }

  async getStats() {
    return new Map(this.stats.map(entry => [entry.id, entry]));
  }

  /** @param {{type: string}} [description] only a rollback */
  async setLocalDescription(description) {
    await undefined;
    if (description?.type === 'rollback') return this.#rollback();
    if (this.signalingState === 'have-remote-offer') {
      this.localDescription = describe('answer', `answer to ${this.remoteDescription?.sdp}`);
      this.#restartNeeded = false;
      this.#becomeStable();
      return;
    }
    if (this.#restartNeeded) this.#ufrag = `u${++generations}`;
    this.localDescription = describe('offer', `offer ${++offers}\r\na=ice-ufrag:${this.#ufrag}\r\n`);
    this.signalingState = 'have-local-offer';
    this.#negotiationNeeded = false;
  }

  #rollback() {
    if (this.signalingState !== 'have-local-offer') throw new DOMException('nothing to roll back', 'InvalidStateError');
    this.rollbacks++;
    this.#negotiationNeeded = true;
    this.#becomeStable();
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
      this.transceivers.push(...this.remoteKinds.splice(0).map(kind => new FakeTransceiver(kind, 'recvonly')));
      return;
    }
    if (this.signalingState !== 'have-local-offer') throw new DOMException('answer without an offer', 'InvalidStateError');
    this.remoteDescription = description;
    this.#restartNeeded = false;
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
  /** @param {string | {kind: string}} trackOrKind @param {string} direction */
  constructor(trackOrKind, direction) {
    this.direction = direction;
    this.receiver = {track: {kind: typeof trackOrKind === 'string' ? trackOrKind : trackOrKind.kind}};
    this.sender = new FakeSender(typeof trackOrKind === 'string' ? null : trackOrKind);
  }
}

class FakeSender {
  /** Whether the encoding was active, after each setParameters. @type {boolean[]} */
  active = [];

  /** @param {unknown} track */
  constructor(track) {
    this.track = track;
  }

  getParameters() {
    return {encodings: [{active: true}]};
  }

  /** @param {{encodings: {active: boolean}[]}} parameters */
  async setParameters({encodings}) {
    this.active.push(encodings[0].active);
  }

  /** @param {unknown} track */
  async replaceTrack(track) {
    this.track = track;
  }
}

/**
 * Returns a description that has toJSON, as those of a browser.
 * @param {RTCSdpType} type
 * @param {string} sdp
 * @returns {{type: RTCSdpType, sdp: string}}
 */
function describe(type, sdp) {
  const description = {type, sdp};
  return Object.defineProperty({...description}, 'toJSON', {value: () => description});
}
