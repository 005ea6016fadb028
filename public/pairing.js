/**
 * What both sides of a pairing by short code have in common: a state, a timer and a
 * mailbox. The owner is the device that shows the code. It reads the mailbox
 * `code-XXXXXX`. The joiner is the device on which the code is entered. It reads a
 * mailbox with a random name. They make the exchange of key-exchange.js with these
 * messages, which have `v: 1`:
 * - join {commitment}, from the joiner
 * - key {key}, from the owner
 * - reveal {key}, from the joiner
 * - link {sealed}, from the owner after its user let the joiner in: the encrypted link
 * - end {reason}: the sender ends the exchange
 *
 * Messages that arrive twice, too early or from other mailboxes are dropped.
 */

import {random} from './room.js';

/** The version of the messages. */
const VERSION = 1;
/** Milliseconds to deliver a last message before the mailbox is released. */
const RELEASE_TIMEOUT = 5_000;

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {(credentials: {name: string, password: string}) => Inbox} CreateInbox returns an inbox that is not started
 * @typedef {{from: string, data: any}} Received
 * @typedef {{error: import('./inbox.js').InboxError, until: number}} Retry
 *   until is the time of the next attempt, as from Date.now()
 */

/**
 * Pairing is the base class of both sides.
 * @template {string} State
 */
export class Pairing extends EventTarget {
  /** The digits that people compare, in the state `asked`. */
  digits = '';
  /** Why the pairing ended, '' if the state says it: a code of an error or of the other side. */
  reason = '';
  /** @type {Retry | null} why requests fail at the moment. Each change is an event `retry`. */
  retry = null;
  /** @type {Inbox | null} the mailbox, while there is one */
  #inbox = null;
  #name = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #createInbox;
  #state;

  /**
   * @param {CreateInbox} createInbox
   * @param {State} state
   */
  constructor(createInbox, state) {
    super();
    this.#createInbox = createInbox;
    this.#state = state;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** The name of the mailbox. */
  get name() {
    return this.#name;
  }

  /**
   * @param {State} state
   * @param {string} [reason]
   */
  setState(state, reason = '') {
    this.#state = state;
    this.reason = reason;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }

  /**
   * Replaces the timer.
   * @param {number} delay milliseconds
   * @param {() => void} callback
   */
  setTimer(delay, callback) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(callback, delay);
  }

  /**
   * Opens a mailbox with a random password. Its events are handled until it is released.
   * @param {string} name
   */
  open(name) {
    const inbox = this.#createInbox({name, password: random()});
    this.#name = name;
    this.#inbox = inbox;
    this.retry = null;
    const on = (/** @type {string} */ type, /** @type {(detail: any) => void} */ listener) =>
      inbox.addEventListener(type, event => inbox === this.#inbox && listener(/** @type {CustomEvent} */ (event).detail));
    on('message', received => received.data?.v === VERSION && this.onMessage(received));
    on('status', status => status === 'open' && this.#onOpen());
    on('error', error => {
      const refused = inbox.status === 'refused';
      if (error.code !== 'unauthorized' && !refused) return this.#onError(error);
      this.#inbox = null;
      inbox.close();
      if (refused) this.onRefused(error.code);
      else this.onUnauthorized();
    });
    inbox.start();
  }

  #onOpen() {
    if (this.retry) this.#setRetry(null);
    this.onOpen();
  }

  /** @param {import('./inbox.js').InboxError} error */
  #onError(error) {
    if (error.retryIn) this.#setRetry({error, until: Date.now() + error.retryIn * 1000}); // else send() rejects
  }

  /** @param {Retry | null} retry */
  #setRetry(retry) {
    this.retry = retry;
    this.dispatchEvent(new Event('retry'));
  }

  /** @param {Received} _received */
  onMessage(_received) {}

  /** Handles that the server accepts requests. */
  onOpen() {}

  /** Handles that the name belongs to another client. The mailbox is closed already. */
  onUnauthorized() {}

  /**
   * Handles that a private server refuses this device. The mailbox is closed already.
   * @param {string} _code
   */
  onRefused(_code) {}

  /**
   * Sends a message. Rejects if the server rejects it, or if the mailbox is released.
   * @param {string} to
   * @param {{kind: string} & Record<string, unknown>} message
   */
  async send(to, message) {
    await this.#inbox?.send(to, {v: VERSION, ...message});
  }

  /**
   * Stops the timer and releases the mailbox. With a recipient, an end is sent first.
   * @param {string} [to]
   * @param {string} [reason]
   */
  release(to, reason) {
    clearTimeout(this.#timer);
    const inbox = this.#inbox;
    if (!inbox) return;
    const sent = to ? this.send(to, {kind: 'end', reason}).catch(() => {}) : null; // it has left
    this.#inbox = null;
    if (!sent) return inbox.release();
    const timer = setTimeout(() => inbox.close(), RELEASE_TIMEOUT); // which rejects the send
    void sent.then(() => {
      clearTimeout(timer);
      inbox.release();
    });
  }

  /**
   * Does the same when the page closes.
   * @param {string} [to]
   */
  releaseLast(to) {
    clearTimeout(this.#timer);
    if (to) this.#inbox?.sendLast(to, {v: VERSION, kind: 'end', reason: 'left'});
    this.#inbox?.release();
    this.#inbox = null;
  }
}
