/**
 * How the two ends of a room find one another and keep a call going, whoever
 * comes first, reloads, or loses the server for a while. No page is touched here.
 *
 * An end is known by the random id of its page, new with each load. What ends say:
 * - hello {page, live, ask}: I am here; with ask: say hello back
 * - signal {page, to, signal}: a peer's signal, for that load of the other page only
 * - bye {page}: this page is being closed
 * - refused {page, to, code, status}: the server does not carry my signals to that page, so there is no call
 *
 * The sending end makes calls, whenever it is live and a hello tells it of a
 * page that has none; and says hello itself while there is no picture.
 */

import {Peer} from './peer.js';
import {random} from './room.js';

/** Milliseconds after which a call that is not connected is given up for a new one. */
const PATIENCE = 10_000;
/** Milliseconds between looks at how the call does, and at least between hellos. */
const LOOK = 1_000;
const GREETING = 5_000;

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./peer.js').Signal} Signal
 * @typedef {'waiting'|'here'|'connecting'|'connected'|'reconnecting'} EndState
 * @typedef {{code: string, status: number}} Refusal what an InboxError says of itself
 * @typedef {{kind: 'hello'|'signal'|'bye'|'refused', page: string, live?: boolean, ask?: boolean, to?: string, signal?: Signal} & Partial<Refusal>} Word
 * @typedef {ConstructorParameters<typeof Peer>[0]} PeerOptions
 */

/**
 * Events: state, with an {@link EndState}; track, as a Peer has it; fault, when
 * that has changed.
 */
class End extends EventTarget {
  /** @type {Peer | null} */
  peer = null;
  /** The page at the other end, '' while none is known. */
  other = '';
  page = random();
  /** @type {Refusal & {kind: 'hello'|'signal'} | null} what the server refused for good, and why */
  fault = null;
  /** Tells a call that is being prepared whether it is still wanted. */
  #turn = 0;
  #greeting = false;
  #work = Promise.resolve();
  /** @type {EndState} */
  #state = 'waiting';

  /**
   * @param {object} options
   * @param {Inbox} options.inbox
   * @param {string} options.to the name of the other end's mailbox
   * @param {() => Promise<RTCIceServer[]>} options.iceServers asked before each call
   * @param {(options: PeerOptions) => Peer} [options.makePeer] for tests
   */
  constructor({inbox, to, iceServers, makePeer = options => new Peer(options)}) {
    super();
    this.inbox = inbox;
    this.to = to;
    this.iceServers = iceServers;
    this.makePeer = makePeer;
    inbox.addEventListener('message', event => {
      const {from, data} = /** @type {CustomEvent} */ (event).detail;
      if (from === to && data?.page) this.#work = this.#work.then(() => this.hear(data)).catch(() => {});
    });
    inbox.addEventListener('status', () => {
      if (inbox.status !== 'open' || this.fault?.kind !== 'hello') return;
      this.blame(null); // the trouble has passed
      void this.greet();
    });
  }

  /** @returns {EndState} */
  get state() {
    return this.#state;
  }

  get live() {
    return false;
  }

  /** Begins to listen, and tells the other end. */
  open() {
    this.inbox.start();
    this.greet();
  }

  /** Says goodbye, for a page that is being closed. */
  leave() {
    if (this.other) this.inbox.sendLast(this.to, {kind: 'bye', page: this.page});
  }

  /** Ends the call, if there is one. */
  hangUp() {
    this.#turn++;
    this.peer?.close();
    this.peer = null;
    this.settle();
  }

  /** Says hello and asks for one; one such hello at a time, since it waits for the other end to be there. */
  async greet() {
    if (this.#greeting) return;
    this.#greeting = true;
    await this.say({kind: 'hello', live: this.live, ask: true});
    this.#greeting = false;
  }

  /**
   * A page that was superseded keeps quiet, or the other end would take it for the newest.
   * @param {Omit<Word, 'page'>} word
   */
  async say(word) {
    if (this.inbox.status === 'superseded') return;
    try {
      await this.inbox.send(this.to, {...word, page: this.page}, {wait: Infinity});
      if (word.kind === 'hello' && this.fault?.kind === 'hello') this.blame(null);
    } catch (error) {
      const {code, status} = /** @type {import('./inbox.js').InboxError} */ (error);
      if (status) this.#refused(word, {code, status}); // else the inbox was closed
    }
  }

  /**
   * The server does not carry a word, however often it is asked. A call cannot
   * come about without its signals: it ends on both sides. One that is connected needs no more.
   * @param {Omit<Word, 'page'>} word
   * @param {Refusal} why
   */
  #refused({kind, signal}, why) {
    if (kind === 'hello') this.blame({kind, ...why});
    if (kind !== 'signal' || signal?.call !== this.peer?.call || this.peer?.state === 'connected') return;
    void this.say({kind: 'refused', to: this.other, ...why});
    this.fail(why);
  }

  /**
   * Ends a call whose signals are refused.
   * @param {Refusal} why
   */
  fail(why) {
    this.blame({kind: 'signal', ...why});
    this.hangUp();
  }

  /** @param {End['fault']} fault */
  blame(fault) {
    if (fault === this.fault) return;
    this.fault = fault;
    this.dispatchEvent(new CustomEvent('fault', {detail: fault}));
  }

  /**
   * @param {Word} word
   * @returns {Promise<void>}
   */
  async hear(word) {
    if (word.kind === 'hello') await this.hearHello(word);
    if (word.kind === 'signal' && word.signal) await this.hearSignal(word, word.signal);
    if (word.kind === 'refused' && word.to === this.page) this.fail({code: word.code ?? '', status: word.status ?? 0});
    if (word.kind === 'bye' && word.page === this.other) {
      this.other = '';
      this.blame(null);
      this.hangUp();
    }
    this.settle();
  }

  /** @param {Word} word */
  async hearHello({page, ask}) {
    this.other = page;
    if (ask) void this.say({kind: 'hello', live: this.live});
  }

  /**
   * @param {Word} _word
   * @param {Signal} signal
   */
  async hearSignal(_word, signal) {
    void this.peer?.receive(signal);
  }

  /**
   * Replaces the call by a new one; by none when that was hung up before it began.
   * @param {string} call
   * @param {boolean} polite
   */
  async begin(call, polite) {
    this.peer?.close();
    this.blame(null);
    const turn = ++this.#turn;
    const iceServers = await this.iceServers();
    if (turn !== this.#turn) return null;
    const to = this.other;
    const send = (/** @type {Signal} */ signal) => void this.say({kind: 'signal', to, signal});
    const peer = this.makePeer({call, polite, send, iceServers});
    this.peer = peer;
    peer.addEventListener('state', () => peer === this.peer && this.settle());
    peer.addEventListener('track', event =>
      this.dispatchEvent(new CustomEvent('track', {detail: /** @type {CustomEvent} */ (event).detail})));
    this.settle();
    return peer;
  }

  /** Works out the state, and tells when it has changed. */
  settle() {
    const state = this.#now();
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /** @returns {EndState} */
  #now() {
    if (this.peer && this.peer.state !== 'closed') return this.peer.state;
    return this.other ? 'here' : 'waiting';
  }
}

/** The end with the camera. */
export class SendingEnd extends End {
  /** @type {Map<'audio'|'video', MediaStreamTrack | null>} */
  #tracks = new Map();
  #called = '';
  #since = 0;
  #greeted = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  get live() {
    return this.#timer !== undefined;
  }

  /** Sends the tracks that were set, from now on, to whoever is or comes there. */
  start() {
    if (this.live) return;
    this.blame(null);
    this.#timer = setInterval(() => this.#look(), LOOK);
    this.#callOut();
  }

  /** Ends the call and makes no new one. */
  stop() {
    if (!this.live) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.hangUp();
    if (this.other) void this.say({kind: 'hello', live: false});
  }

  /**
   * Another call would be refused as well: the person decides.
   * @param {Refusal} why
   */
  fail(why) {
    super.fail(why);
    this.stop();
  }

  /**
   * @param {'audio'|'video'} kind
   * @param {MediaStreamTrack | null} track null sends nothing
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await this.peer?.setTrack(kind, track);
  }

  /** @param {Word} word */
  async hearHello(word) {
    this.other = word.page;
    if (this.live && this.#wantsCall(word.page)) await this.#makeCall();
    else await super.hearHello(word);
  }

  /** @param {string} page */
  #wantsCall(page) {
    return !this.peer || page !== this.#called || this.#overdue;
  }

  /** Whether the call had its time and is not connected. */
  get #overdue() {
    return this.peer?.state !== 'connected' && Date.now() - this.#since > PATIENCE;
  }

  async #makeCall() {
    this.#called = this.other;
    this.#since = Date.now();
    const peer = await this.begin(random(), false);
    for (const [kind, track] of this.#tracks) await peer?.setTrack(kind, track);
  }

  /**
   * A broken connection gets its time to mend before a new call is made. Its
   * signals make no way while the server asks for pauses: a new call would only add to them.
   */
  #look() {
    if (this.peer?.state === 'connected' || this.inbox.status === 'retrying') this.#since = Date.now();
    const missing = !this.peer || this.#overdue;
    if (missing && Date.now() - this.#greeted > GREETING) this.#callOut();
  }

  #callOut() {
    this.#greeted = Date.now();
    void this.greet();
  }
}

/** The end with the screen. It does as it is called. */
export class ReceivingEnd extends End {
  /** @param {Word} word */
  async hearHello(word) {
    if (word.page !== this.other || !word.live) this.hangUp();
    await super.hearHello(word);
  }

  /**
   * @param {Word} word
   * @param {Signal} signal
   */
  async hearSignal(word, signal) {
    if (word.to !== this.page) return; // meant for this page before it was loaded anew
    if (this.peer?.call !== signal.call) {
      if (signal.description?.type !== 'offer') return;
      this.other = word.page;
      await this.begin(signal.call, true);
    }
    await super.hearSignal(word, signal);
  }
}
