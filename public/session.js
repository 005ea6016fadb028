/**
 * Connects the two endpoints of a room and keeps their call connected. The pages
 * can open in any order and reload, and the server can be unavailable for a while.
 * This module does not use the DOM.
 *
 * A random id identifies the page of an endpoint; each load has a new one.
 * Endpoints exchange these messages:
 * - hello {page, live, ask, retry}: the page is open; with ask, the other page replies with a
 *   hello; with retry, its user wants a new call in place of one that connects
 * - signal {page, to, signal}: a signal of a peer, valid only for the page `to`. It can
 *   have a report: what the page says of its device and its tracks
 * - bye {page}: the page is closing
 * - refused {page, to, code, status}: the server rejected a signal to that page, so the call fails
 *
 * In a room for one camera, SendingEndpoint starts every call to ReceivingEndpoint.
 * In a room for two-way calls, both sides are a CallEndpoint, and the one of slot a
 * starts every call. While that side is live, it calls each page that says hello and
 * has no call. It sends hellos while there is no call, and when a call does not
 * connect in time.
 */

import {MAX_RETRY_DELAY} from './codec.js';
import {random} from './room.js';

/** Milliseconds a call has to connect before a new call replaces it. */
const CONNECT_TIMEOUT = 10_000;
/** Milliseconds between checks of the call. */
const TICK_INTERVAL = 1_000;
/** Minimum milliseconds between hellos. */
const HELLO_INTERVAL = 5_000;
/** Maximum milliseconds before the inbox retries a request during a relayed call. */
const RELAYED_RETRY_DELAY = 2_000;

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./peer.js').Signal} Signal
 * @typedef {'waiting'|'present'|'connecting'|'connected'|'reconnecting'} EndpointState
 * @typedef {'audio'|'video'} Kind
 * @typedef {'on'|'off'|'interrupted'|'ended'|'screen'} MediaState what a side says of its
 *   track of a kind: interrupted by the system, ended by the device, or video of a screen
 * @typedef {Record<Kind, MediaState>} Media
 * @typedef {{n: number, device: string, media: Media, pass?: string}} Report n numbers the reports of a page, from 1
 * @typedef {{live: boolean, device: string, media: Media, muted: Record<Kind, boolean>}} Remote
 *   what the other side says: whether it takes part in a call (live), the name of its
 *   device ('' if unknown), and its tracks. muted is true for those that send nothing
 * @typedef {{code: string, status: number}} ErrorInfo the identifying fields of an InboxError
 * @typedef {(Signal | {call: string}) & {report?: Report}} ReportedSignal a signal of a peer, a report, or both
 * @typedef {{kind: 'hello'|'signal'|'bye'|'refused', page: string, live?: boolean, ask?: boolean, retry?: boolean, to?: string,
 *   signal?: ReportedSignal} & Partial<ErrorInfo>} Message
 * @typedef {import('./observed-peer.js').ObservedPeer} Peer
 * @typedef {import('./watched-peer.js').WatchedPeerOptions} PeerOptions
 */

/** Maximum number of characters of the name of a device. */
const MAX_DEVICE_NAME = 60;
/** Maximum number of characters of the id of a page. */
const MAX_PAGE_ID = 64;
/** @type {readonly MediaState[]} */
const mediaStates = ['on', 'off', 'interrupted', 'ended', 'screen'];

/**
 * Endpoint is the base class of both sides. Events:
 * - state: the {@link EndpointState} has changed
 * - track: as in Peer
 * - error: the `error` property has changed
 * - remote: the `remote` property has changed
 * - pass: the other side has sent a guest pass for a private server
 */
class Endpoint extends EventTarget {
  /** @type {Peer | null} */
  peer = null;
  /** The id of the remote page, '' while it is unknown. */
  remotePage = '';
  page = random();
  /** @type {ErrorInfo & {kind: 'hello'|'signal'} | null} the last permanent error from the server */
  error = null;
  /** @type {Remote} */
  remote = newRemote();
  /** When the call began to connect, in milliseconds. */
  connectingSince = 0;
  /** @type {Media} */
  #media = {audio: 'on', video: 'on'};
  #reports = 0;
  #lastReport = 0;
  /** A guest pass for the other side, '' for none. */
  #pass = '';
  /** Changes with each call, so that an outdated startCall can detect it. */
  #generation = 0;
  /** Whether the server responds. */
  #signalingOpen = true;
  #sendingHello = false;
  #queue = Promise.resolve();
  /** @type {EndpointState} */
  #state = 'waiting';

  /**
   * @param {object} options
   * @param {Inbox} options.inbox
   * @param {string} options.to the mailbox of the remote endpoint
   * @param {() => Promise<RTCIceServer[]>} options.fetchIceServers called before each call and each ICE restart
   * @param {RTCIceTransportPolicy} [options.iceTransportPolicy] as in Peer
   * @param {string} [options.device] the name of this device, for the other side
   * @param {(options: PeerOptions) => Peer | Promise<Peer>} options.createPeer a page loads the code of peers later
   */
  constructor({inbox, to, fetchIceServers, iceTransportPolicy, device = '', createPeer}) {
    super();
    this.inbox = inbox;
    this.to = to;
    this.fetchIceServers = fetchIceServers;
    this.iceTransportPolicy = iceTransportPolicy;
    this.device = device;
    this.createPeer = createPeer;
    inbox.addEventListener('message', event => {
      const {from, data} = /** @type {CustomEvent} */ (event).detail;
      if (from === to && isPageId(data?.page)) this.#queue = this.#queue.then(() => this.onMessage(data)).catch(error => console.warn(error));
    });
    inbox.addEventListener('status', () => {
      if (inbox.status !== 'open' || this.error?.kind !== 'hello') return;
      this.setError(null); // the server accepts requests again
      void this.sendHello();
    });
    inbox.addEventListener('superseded', () => this.onSuperseded());
    inbox.addEventListener('connection', event => {
      this.#signalingOpen = /** @type {CustomEvent} */ (event).detail === 'restored';
      this.peer?.setSignaling(this.#signalingOpen);
    });
  }

  /** @returns {EndpointState} */
  get state() {
    return this.#state;
  }

  get live() {
    return false;
  }

  /** Whether the other side takes part in a call. */
  get remoteLive() {
    return this.remote.live;
  }

  /** Whether both sides send and receive. */
  get twoWay() {
    return false;
  }

  /** Starts to receive messages and sends a hello. Takes the mailbox over from another page. */
  open() {
    void this.inbox.start();
    void this.sendHello();
  }

  /** Ends the call, because another page has the mailbox now. open() makes this one the newest. */
  onSuperseded() {
    this.page = random();
    this.hangUp();
  }

  /**
   * Tells the other side the states of the tracks, now and with each later call.
   * @param {Partial<Media>} media
   */
  setMedia(media) {
    const next = {...this.#media, ...media};
    if (next.audio === this.#media.audio && next.video === this.#media.video) return;
    this.#media = next;
    this.#sendReport();
  }

  /**
   * Gives the other side a guest pass for a private server, now and with each later call.
   * @param {string} pass
   */
  givePass(pass) {
    this.#pass = pass;
    this.#sendReport();
  }

  #sendReport() {
    if (!this.peer) return;
    const {call} = this.peer;
    void this.send({kind: 'signal', to: this.remotePage, signal: this.#withReport({call})});
  }

  /** Returns the statistics of the call, null without one. */
  async getStats() {
    return await this.peer?.getStats() ?? null;
  }

  /** Sends a bye. A page calls it when it closes. */
  leave() {
    if (this.remotePage) this.inbox.sendLast(this.to, {kind: 'bye', page: this.page});
  }

  /** Ends the current call, if any. */
  hangUp() {
    this.#generation++;
    const {peer} = this;
    this.peer = null; // first, because its end must not lead here again
    peer?.close();
    this.#limitRetryDelay();
    this.updateState();
  }

  /**
   * Sends a hello that requests a reply. At most one is pending, because
   * delivery waits until the remote mailbox exists.
   */
  async sendHello() {
    if (this.#sendingHello) return;
    this.#sendingHello = true;
    await this.send({kind: 'hello', live: this.live, ask: true});
    this.#sendingHello = false;
  }

  /** Requests a new call in place of one that is not connected, however young it is. */
  async retry() {
    await this.send({kind: 'hello', live: this.live, ask: true, retry: true});
  }

  /**
   * Sends a message to the remote endpoint. A superseded page must not send,
   * because the remote endpoint would regard it as the newest page.
   * @param {Omit<Message, 'page'>} message
   */
  async send(message) {
    if (this.inbox.status === 'superseded' || this.inbox.status === 'refused') return;
    try {
      await this.inbox.send(this.to, {...message, page: this.page}, {wait: Infinity});
      if (message.kind === 'hello' && this.error?.kind === 'hello') this.setError(null);
    } catch (error) {
      const {code, status} = /** @type {import('./inbox.js').InboxError} */ (error);
      if (status) this.#onSendError(message, {code, status}); // without a status, the inbox was closed
    }
  }

  /**
   * Handles a message that the server rejected permanently. A call cannot be
   * established without its signals, so it ends on both sides. A connected
   * call continues.
   * @param {Omit<Message, 'page'>} message
   * @param {ErrorInfo} error
   */
  #onSendError({kind, signal}, error) {
    if (kind === 'hello') this.setError({kind, ...error});
    if (kind !== 'signal' || signal?.call !== this.peer?.call || this.peer?.state === 'connected') return;
    void this.send({kind: 'refused', to: this.remotePage, ...error});
    this.failCall(error);
  }

  /**
   * Ends a call whose signals were rejected.
   * @param {ErrorInfo} error
   */
  failCall(error) {
    this.setError({kind: 'signal', ...error});
    this.hangUp();
  }

  /** @param {Endpoint['error']} error */
  setError(error) {
    if (error === this.error) return;
    this.error = error;
    this.dispatchEvent(new CustomEvent('error', {detail: error}));
  }

  /**
   * @param {Message} message
   * @returns {Promise<void>}
   */
  async onMessage(message) {
    if (message.kind === 'hello') await this.onHello(message);
    if (message.kind === 'signal' && message.signal) await this.onSignal(message, message.signal);
    if (message.kind === 'refused' && message.to === this.page) this.failCall({code: message.code ?? '', status: message.status ?? 0});
    if (message.kind === 'bye' && message.page === this.remotePage) {
      this.remotePage = '';
      this.setRemote(newRemote());
      this.setError(null);
      this.hangUp();
    }
    this.updateState();
  }

  /**
   * Sets the other page. What the previous one said does not apply to it.
   * @param {string} page
   * @param {boolean} live
   */
  setRemotePage(page, live) {
    const same = page === this.remotePage;
    this.remotePage = page;
    if (!same) this.#lastReport = 0;
    this.setRemote({...same ? this.remote : newRemote(), live});
  }

  /** @param {Remote} remote */
  setRemote(remote) {
    if (JSON.stringify(remote) === JSON.stringify(this.remote)) return;
    this.remote = remote;
    this.dispatchEvent(new CustomEvent('remote', {detail: remote}));
  }

  /**
   * Adds what this page says of itself to a signal.
   * @param {Signal | {call: string}} signal
   * @returns {ReportedSignal}
   */
  #withReport(signal) {
    return {...signal, report: {n: ++this.#reports, device: this.device, media: this.#media, ...this.#pass && {pass: this.#pass}}};
  }

  /**
   * Handles what the other page says of itself. Late reports are dropped.
   * @param {Report} report any value that arrived
   */
  #onReport({n, device, media, pass}) {
    if (!(n > this.#lastReport)) return;
    this.#lastReport = n;
    if (pass) this.dispatchEvent(new CustomEvent('pass', {detail: pass}));
    const [audio, video] = [media?.audio, media?.video].map(state => mediaStates.includes(state) ? state : 'on');
    const muted = {audio: isMuted(audio), video: isMuted(video)};
    this.setRemote({...this.remote, device: String(device ?? '').slice(0, MAX_DEVICE_NAME), media: {audio, video}, muted});
  }

  /** @param {Message} message */
  async onHello({page, live, ask}) {
    this.setRemotePage(page, live === true);
    if (ask) void this.send({kind: 'hello', live: this.live});
  }

  /**
   * @param {Message} _message
   * @param {ReportedSignal} signal
   */
  async onSignal(_message, signal) {
    if (signal.call !== this.peer?.call) return;
    if (signal.report) this.#onReport(signal.report);
    if ('n' in signal) void this.peer.receive(signal);
  }

  /**
   * Accepts the call of an offer that is addressed to this page.
   * @param {Message} message
   * @param {ReportedSignal} signal
   * @returns {Promise<Peer | null>} null if it is not a new call
   */
  async acceptCall({page, to}, signal) {
    const offer = 'n' in signal && signal.description?.type === 'offer';
    if (!offer || to !== this.page || this.peer?.call === signal.call) return null;
    this.setRemotePage(page, true);
    return this.startCall(signal.call, true);
  }

  /**
   * Replaces the current call with a new one. Returns null if the call was hung
   * up while the ICE servers were being fetched.
   * @param {string} call
   * @param {boolean} polite
   */
  async startCall(call, polite) {
    this.peer?.close();
    this.setError(null);
    this.connectingSince = Date.now();
    const generation = ++this.#generation;
    const iceServers = await this.fetchIceServers();
    if (generation !== this.#generation) return null;
    const to = this.remotePage;
    const send = (/** @type {Signal} */ signal) =>
      void this.send({kind: 'signal', to, signal: signal.description ? this.#withReport(signal) : signal});
    const {fetchIceServers, iceTransportPolicy, twoWay} = this;
    const peer = await this.createPeer({call, polite, twoWay, send, iceServers, fetchIceServers, iceTransportPolicy});
    if (generation !== this.#generation) {
      peer.close();
      return null;
    }
    this.peer = peer;
    peer.setSignaling(this.#signalingOpen);
    peer.addEventListener('state', () => peer === this.peer && this.updateState());
    peer.addEventListener('path', () => this.#limitRetryDelay());
    peer.addEventListener('track', event =>
      this.dispatchEvent(new CustomEvent('track', {detail: /** @type {CustomEvent} */ (event).detail})));
    this.updateState();
    return peer;
  }

  /** Retries sooner during a relayed call, because its relay is usually a part of the server. */
  #limitRetryDelay() {
    this.inbox.maxRetryDelay = this.peer?.relayed ? RELAYED_RETRY_DELAY : MAX_RETRY_DELAY;
  }

  /** Recomputes the state and dispatches an event if it changed. */
  updateState() {
    const state = this.#currentState();
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /** @returns {EndpointState} */
  #currentState() {
    if (this.peer && this.peer.state !== 'closed') return this.peer.state;
    return this.remotePage ? 'present' : 'waiting';
  }
}

/** @returns {Remote} */
function newRemote() {
  return {live: false, device: '', media: {audio: 'on', video: 'on'}, muted: {audio: false, video: false}};
}

/**
 * Whether a value can be the id of a page. Messages other than signals are not encrypted, so
 * whoever passes them on can send anything.
 * @param {unknown} id
 */
function isPageId(id) {
  return typeof id === 'string' && id !== '' && id.length <= MAX_PAGE_ID;
}

/** @param {MediaState} state */
function isMuted(state) {
  return state !== 'on' && state !== 'screen';
}

/** SendingEndpoint is the endpoint with the camera. */
export class SendingEndpoint extends Endpoint {
  /** @type {Map<Kind, MediaStreamTrack | null>} */
  #tracks = new Map();
  #calledPage = '';
  #lastHello = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  get live() {
    return this.#timer !== undefined;
  }

  /** Starts to send the tracks to the current remote page and to each later one. */
  start() {
    if (this.live) return;
    this.setError(null);
    this.#timer = setInterval(() => this.#tick(), TICK_INTERVAL);
    if (this.remotePage && this.needsCall()) void this.#makeCall();
    else this.#announce();
  }

  async retry() {
    this.connectingSince = -Infinity;
    await super.retry();
  }

  /** Ends the call and starts no new one. */
  stop() {
    if (!this.live) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.hangUp();
    if (this.remotePage) void this.send({kind: 'hello', live: false});
  }

  onSuperseded() {
    super.onSuperseded();
    this.stop();
  }

  /**
   * Stops as well, because the server would reject the next call too. The user
   * has to start again.
   * @param {ErrorInfo} error
   */
  failCall(error) {
    super.failCall(error);
    this.stop();
  }

  /**
   * @param {Kind} kind
   * @param {MediaStreamTrack | null} track null stops sending this kind
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await this.peer?.setTrack(kind, track);
  }

  /**
   * Gives a peer the tracks of this side.
   * @param {Peer | null} peer
   */
  async addTracks(peer) {
    for (const [kind, track] of this.#tracks) await peer?.setTrack(kind, track);
  }

  /** @param {Message} message */
  async onHello(message) {
    this.setRemotePage(message.page, message.live === true);
    if (message.retry) this.connectingSince = -Infinity;
    if (this.live && this.needsCall()) await this.#makeCall();
    else await super.onHello(message);
  }

  /** Whether a hello of the remote page starts a call. */
  needsCall() {
    return !this.peer || this.remotePage !== this.#calledPage || this.#timedOut;
  }

  /** Whether the tick asks the other page for a hello, as long as there is no call. */
  get awaitsHello() {
    return true;
  }

  /** Whether the call failed to connect within CONNECT_TIMEOUT. */
  get #timedOut() {
    return this.peer?.state !== 'connected' && Date.now() - this.connectingSince > CONNECT_TIMEOUT;
  }

  async #makeCall() {
    this.#calledPage = this.remotePage;
    await this.addTracks(await this.startCall(random(), false));
  }

  /**
   * Sends a hello if the call is missing or has timed out; the reply starts a new
   * call. The timeout restarts while the call is connected, so that a broken
   * connection has time to recover. It also restarts while the inbox backs off:
   * signals are delayed then, and a new call would only add requests.
   */
  #tick() {
    if (this.peer?.state === 'connected' || this.inbox.status === 'retrying') this.connectingSince = Date.now();
    const missing = this.peer ? this.#timedOut : this.awaitsHello;
    if (missing && Date.now() - this.#lastHello > HELLO_INTERVAL) this.#announce();
  }

  #announce() {
    this.#lastHello = Date.now();
    void this.sendHello();
  }
}

/** ReceivingEndpoint is the endpoint with the screen. It accepts every call. */
export class ReceivingEndpoint extends Endpoint {
  /** @param {Message} message */
  async onHello(message) {
    if (message.page !== this.remotePage || !message.live) this.hangUp();
    await super.onHello(message);
  }

  /**
   * @param {Message} message
   * @param {ReportedSignal} signal
   */
  async onSignal(message, signal) {
    await this.acceptCall(message, signal);
    await super.onSignal(message, signal);
  }
}

/**
 * CallEndpoint is one of the two equal sides of a two-way call. A call is made while
 * both are live: start() takes part, stop() hangs up. The other side learns of both
 * by the event `remote`. The tracks of setTrack are sent whenever there is a call.
 */
export class CallEndpoint extends SendingEndpoint {
  #slot;

  /** @param {ConstructorParameters<typeof SendingEndpoint>[0] & {slot: import('./room.js').Slot}} options */
  constructor({slot, ...options}) {
    super(options);
    this.#slot = slot;
    for (const kind of /** @type {const} */ (['audio', 'video'])) void this.setTrack(kind, null);
  }

  get slot() {
    return this.#slot;
  }

  get twoWay() {
    return true;
  }

  /** Also releases the mailbox, so that another device can take the slot at once. */
  leave() {
    super.leave();
    if (this.inbox.status !== 'superseded') this.inbox.release(); // else it is that of another page
  }

  needsCall() {
    return this.#slot === 'a' && this.remote.live && super.needsCall();
  }

  /** A page that is open and not live sends a hello when it starts. */
  get awaitsHello() {
    return !this.remotePage || this.remote.live;
  }

  /** @param {Message} message */
  async onHello(message) {
    if (message.page !== this.remotePage || !message.live) this.hangUp();
    await super.onHello(message);
  }

  /**
   * @param {Message} message
   * @param {ReportedSignal} signal
   */
  async onSignal(message, signal) {
    if (this.live && this.#slot === 'b') await this.addTracks(await this.acceptCall(message, signal));
    await super.onSignal(message, signal);
  }
}
