/**
 * The device on which a short code is entered. It receives a link from the device
 * that shows the code:
 *
 *     const joiner = new CodeJoiner(credentials => new Inbox(url, credentials), code);
 *     joiner.addEventListener('state', () => … joiner.state, joiner.digits, joiner.link …);
 *     joiner.start();
 *     joiner.confirm();                         // in the state asked, after a press
 *
 * pairing.js describes the messages.
 */

import {codeMailbox} from './code.js';
import {KeyExchange} from './key-exchange.js';
import {Pairing} from './pairing.js';
import {random} from './room.js';

/** Milliseconds to wait for the key of the owner, including the wait after a 429. */
const ANSWER_TIMEOUT = 45_000;
/** Milliseconds to wait for the decisions of both users. */
const DECISION_TIMEOUT = 150_000;
const REASON = /^[a-z-]{1,32}$/;

/**
 * @typedef {import('./pairing.js').CreateInbox} CreateInbox
 * @typedef {import('./pairing.js').Received} Received
 * @typedef {import('./key-exchange.js').Agreement} Agreement
 * @typedef {'starting'|'asked'|'let-in'|'refused'|'expired'|'busy'|'wrong-code'|'failed'|'closed'} JoinerState
 */

/**
 * CodeJoiner enters a code, once. An event `state` reports each of its states:
 * - starting: the owner of the code is contacted
 * - asked: `digits` are those that the owner shows, unless someone is in between.
 *   The owner's user decides, and the user of this device confirms with confirm()
 * - let-in: `link` is the link of the owner
 * - refused: the owner's user has refused
 * - expired: a user did not decide in time, or the code is too old
 * - busy: the owner is talking to another joiner
 * - wrong-code: no one shows this code
 * - failed: `reason` says why
 * - closed
 * @extends {Pairing<JoinerState>}
 */
export class CodeJoiner extends Pairing {
  /** The link of the owner, '' before the state `let-in`. */
  link = '';
  #owner;
  /** @type {KeyExchange | undefined} */
  #exchange;
  /** @type {Agreement | undefined} */
  #agreement;
  #keyReceived = false;
  #linkReceived = false;
  #receivedLink = '';
  #confirmed = false;

  /**
   * @param {CreateInbox} createInbox
   * @param {string} code as parseCode() returns it
   */
  constructor(createInbox, code) {
    super(createInbox, 'starting');
    this.#owner = codeMailbox(code);
  }

  /** Sends the request to join. Only the first call has an effect. */
  start() {
    if (this.name || this.state === 'closed') return;
    this.open(`join-${random()}`);
    this.setTimer(ANSWER_TIMEOUT, () => this.#leave('failed', 'no-answer'));
    void this.#run(async () => {
      this.#exchange = await KeyExchange.create({owner: this.#owner, joiner: this.name});
      await this.send(this.#owner, {kind: 'join', commitment: await this.#exchange.commitment});
    });
  }

  /**
   * Confirms that the owner shows the same digits. Without it, a server could pass
   * its own link off as that of the owner.
   */
  confirm() {
    this.#confirmed ||= this.state === 'asked';
    this.#complete();
  }

  /** Ends everything. A page calls it when it closes. */
  close() {
    this.releaseLast(this.#linkReceived ? undefined : this.#owner);
    this.setState('closed');
  }

  /**
   * @param {JoinerState} state
   * @param {string} [reason]
   * @param {boolean} [tell] whether the owner expects a message
   */
  #leave(state, reason, tell = !this.#linkReceived) {
    this.release(tell ? this.#owner : undefined, 'left');
    this.digits = '';
    this.setState(state, reason);
  }

  get #active() {
    return this.state === 'starting' || this.state === 'asked';
  }

  /**
   * Runs a step of the exchange. Its error ends the exchange.
   * @param {() => Promise<void>} step
   */
  #run(step) {
    return step().catch(error => {
      if (!this.#active) return;
      const absent = error.code === 'no-inbox';
      if (absent && !this.#keyReceived) this.#leave('wrong-code', '', false);
      else this.#leave('failed', error.code ?? 'failed', !absent);
    });
  }

  onUnauthorized() {
    this.#leave('failed', 'unauthorized', false);
  }

  /** @param {string} code */
  onRefused(code) {
    this.#leave('failed', code, false);
  }

  /** @param {Received} received */
  onMessage({from, data}) {
    if (from !== this.#owner) return;
    if (data.kind === 'key') void this.#run(() => this.#onKey(data.key));
    if (data.kind === 'link') void this.#run(() => this.#onLink(data.sealed));
    if (data.kind === 'end' && !this.#linkReceived) this.#onEnd(data.reason);
  }

  /** @param {unknown} key */
  async #onKey(key) {
    if (!this.#exchange || this.#keyReceived) return;
    this.#keyReceived = true;
    const agreement = await this.#exchange.acceptKey(key);
    if (!this.#active) return;
    this.#agreement = agreement;
    this.digits = agreement.digits;
    this.setTimer(DECISION_TIMEOUT, () => this.#leave('expired'));
    this.setState('asked');
    await this.send(this.#owner, {kind: 'reveal', key: this.#exchange.publicKey});
  }

  /** @param {unknown} sealed */
  async #onLink(sealed) {
    if (!this.#agreement || this.#linkReceived) return;
    this.#linkReceived = true;
    this.#receivedLink = await this.#agreement.openLink(sealed);
    this.#complete();
  }

  #complete() {
    if (!this.#active || !this.#confirmed || !this.#receivedLink) return;
    this.link = this.#receivedLink;
    this.#leave('let-in');
  }

  /** @param {unknown} reason */
  #onEnd(reason) {
    if (reason === 'refused' || reason === 'busy' || reason === 'expired') return this.#leave(reason, '', false);
    this.#leave('failed', typeof reason === 'string' && REASON.test(reason) ? reason : 'left', false);
  }
}
