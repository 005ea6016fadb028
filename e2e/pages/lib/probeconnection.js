/** A fake RTCPeerConnection for probes: a script decides what it gathers, and whether it connects. */

export class ProbeConnection extends EventTarget {
  /** @type {RTCIceGatheringState} */
  iceGatheringState = 'new';
  localDescription = {type: 'offer', sdp: ''};
  closed = false;
  onclosed = () => {};
  #channel = Object.assign(new EventTarget(), {send: (/** @type {string} */ data) => this.#echo(data)});
  #script;

  /**
   * @param {RTCConfiguration} configuration
   * @param {(connection: ProbeConnection) => void} script runs when gathering begins
   */
  constructor(configuration, script) {
    super();
    this.configuration = configuration;
    this.#script = script;
  }

  createDataChannel() {
    return this.#channel;
  }

  async setLocalDescription() {
    queueMicrotask(() => this.closed || this.#script(this));
  }

  async setRemoteDescription() {}

  async addIceCandidate() {}

  close() {
    this.closed = true;
    this.onclosed();
  }

  /** @param {RTCIceCandidateType} type */
  candidate(type, protocol = 'udp') {
    const candidate = {type, candidate: `candidate:1 1 ${protocol} 1 192.0.2.1 1 typ ${type}`};
    this.dispatchEvent(Object.assign(new Event('icecandidate'), {candidate}));
    return this;
  }

  /** @param {number} errorCode */
  error(errorCode) {
    this.dispatchEvent(Object.assign(new Event('icecandidateerror'), {errorCode}));
    return this;
  }

  gathered() {
    this.iceGatheringState = 'complete';
    this.dispatchEvent(new Event('icegatheringstatechange'));
    return this;
  }

  /** Opens the data channel. */
  open() {
    this.#channel.dispatchEvent(new Event('open'));
    return this;
  }

  /** @param {string} data */
  #echo(data) {
    this.#channel.dispatchEvent(Object.assign(new Event('message'), {data}));
  }
}
