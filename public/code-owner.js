/**
 * The device that shows a short code. It lets another device in, which receives a
 * link:
 *
 *     const owner = new CodeOwner(credentials => new Inbox(url, credentials));
 *     owner.addEventListener('state', () => … owner.state, owner.code, owner.digits …);
 *     owner.renew();
 *     owner.letIn(link);                        // in the state asked, after a press
 *
 * pairing.js describes the messages.
 */

import {codeMailbox, newCode} from './code.js';
import {KeyExchange} from './key-exchange.js';
import {Pairing} from './pairing.js';
import {fromBase64url} from './room.js';

/** Milliseconds that a code is valid. */
const CODE_LIFETIME = 600_000;
/** Milliseconds to wait for the key of the joiner, and to try to send the link. */
const EXCHANGE_TIMEOUT = 30_000;
/** Milliseconds that the user has to decide. */
const DECISION_TIMEOUT = 120_000;
/** Maximum number of answers to rejected joiners per code. */
const MAX_REJECTIONS = 8;
/** Maximum number of codes in a row that belong to other owners. */
const MAX_TAKEN_CODES = 3;
const COMMITMENT_BYTES = 32;
const JOINER_NAME = /^join-[\w-]{22}$/;

/**
 * @typedef {import('./pairing.js').CreateInbox} CreateInbox
 * @typedef {import('./pairing.js').Received} Received
 * @typedef {import('./key-exchange.js').Agreement} Agreement
 * @typedef {{name: string, commitment: string, exchange?: KeyExchange, revealed?: boolean, agreement?: Agreement, decided?: boolean}} Joiner
 *   the joiner of the current exchange
 * @typedef {'paused'|'starting'|'waiting'|'exchanging'|'asked'|'let-in'|'interrupted'|'failed'|'closed'} OwnerState
 */

/**
 * CodeOwner shows a code and lets one joiner in. An event `state` reports each of
 * its states:
 * - paused: there is no code, and no request is sent, before renew(). The first state
 * - starting: the code cannot be entered yet
 * - waiting: `code` is valid. After ten minutes it is renewed, if `mayRenew` returns
 *   true, or the owner pauses
 * - exchanging: a joiner is there. Other joiners are told that the owner is busy
 * - asked: `digits` are those of the joiner; letIn() or refuse() decides. After
 *   refuse(), a new code follows
 * - let-in: the joiner has the link
 * - interrupted: the exchange ended without a decision; `reason` says why. An
 *   attacker who does not like the digits causes this, so only the user may renew()
 * - failed: the server accepts no code
 * - closed
 * @extends {Pairing<OwnerState>}
 */
export class CodeOwner extends Pairing {
  /** The valid code, '' if there is none. */
  code = '';
  /** @type {Joiner | null} */
  #joiner = null;
  #nextCode = '';
  #expires = 0;
  #rejections = 0;
  #takenCodes = 0;
  #mayRenew;

  /**
   * @param {CreateInbox} createInbox
   * @param {{mayRenew?: () => boolean}} [options] mayRenew reports whether a user can see a new code
   */
  constructor(createInbox, {mayRenew = () => true} = {}) {
    super(createInbox, 'paused');
    this.#mayRenew = mayRenew;
  }

  /** Replaces the code by a new one and ends the current exchange. Also the first start. */
  renew() {
    if (this.state === 'closed') return;
    this.#takenCodes = 0;
    this.#start('expired');
  }

  /**
   * Releases the code and ends the current exchange, until renew(). It does not end
   * the state `interrupted`, which only the user may end.
   */
  pause() {
    if (['paused', 'interrupted', 'failed', 'closed'].includes(this.state)) return;
    this.release(this.#joiner?.name, 'busy');
    this.#leave('paused');
  }

  /** Ends everything. A page calls it when it closes. */
  close() {
    this.releaseLast(this.#joiner?.name);
    this.#leave('closed');
  }

  /**
   * Sends the link to the joiner. Does nothing in another state than `asked`.
   * @param {string} link of http or https, at most 2048 characters
   */
  async letIn(link) {
    const joiner = this.#takeDecision();
    if (!joiner?.agreement) return;
    const {sealLink} = joiner.agreement;
    this.setTimer(EXCHANGE_TIMEOUT, () => this.#interrupt('no-answer'));
    await this.#run(joiner, async () => {
      const sealed = await sealLink(link);
      if (joiner === this.#joiner) await this.send(joiner.name, {kind: 'link', sealed});
      if (joiner !== this.#joiner) return;
      this.release();
      this.#leave('let-in');
    });
  }

  /** Rejects the joiner. Does nothing in another state than `asked`. */
  refuse() {
    if (this.#takeDecision()) this.#start('refused');
  }

  #takeDecision() {
    const joiner = this.#joiner;
    if (!joiner?.agreement || joiner.decided) return null;
    joiner.decided = true;
    return joiner;
  }

  /**
   * @param {string} reason for the joiner
   * @param {string} [to] the mailbox of the joiner
   */
  #start(reason, to = this.#joiner?.name) {
    this.release(to, reason);
    this.#rejections = 0;
    this.#expires = Date.now() + CODE_LIFETIME;
    this.#nextCode = newCode();
    this.open(codeMailbox(this.#nextCode));
    this.setTimer(CODE_LIFETIME, () => this.#expire());
    this.#leave('starting');
  }

  /**
   * Ends a code that is too old.
   * @param {string} [to] the mailbox of a joiner that has entered it
   */
  #expire(to) {
    this.#takenCodes = 0;
    if (this.#mayRenew()) return this.#start('expired', to);
    this.release(to, 'expired');
    this.#leave('paused');
  }

  /**
   * @param {OwnerState} state
   * @param {string} [reason]
   */
  #leave(state, reason) {
    this.#joiner = null;
    this.code = this.digits = '';
    this.setState(state, reason);
  }

  /**
   * Ends the exchange without a decision of the user.
   * @param {string} reason
   */
  #interrupt(reason) {
    this.release(reason === 'left' ? undefined : this.#joiner?.name, reason);
    this.#leave('interrupted', reason);
  }

  /**
   * Runs a step of an exchange. Its error ends the exchange.
   * @param {Joiner} joiner
   * @param {() => Promise<void>} step
   */
  #run(joiner, step) {
    return step().catch(error => {
      if (joiner === this.#joiner) this.#interrupt(error.code ?? 'failed');
    });
  }

  onOpen() {
    if (this.state !== 'starting') return;
    this.code = this.#nextCode;
    this.setState('waiting');
  }

  onUnauthorized() {
    if (this.#joiner) return this.#interrupt('unauthorized');
    if (++this.#takenCodes < MAX_TAKEN_CODES) return this.#start('');
    this.release();
    this.#leave('failed', 'unauthorized');
  }

  /** @param {string} code */
  onRefused(code) {
    this.release(); // stops the timer
    this.#leave('failed', code);
  }

  /** @param {Received} received */
  onMessage({from, data}) {
    const joiner = this.#joiner;
    if (from !== joiner?.name) {
      if (data.kind === 'join' && JOINER_NAME.test(from)) this.#onJoin(from, data.commitment);
    } else if (data.kind === 'reveal') {
      void this.#run(joiner, () => this.#onReveal(joiner, data.key));
    } else if (data.kind === 'end' && !joiner.decided) {
      this.#interrupt('left');
    }
  }

  /**
   * @param {string} name
   * @param {unknown} commitment
   */
  #onJoin(name, commitment) {
    if (this.#joiner) return this.#reject(name, 'busy');
    if (fromBase64url(commitment)?.length !== COMMITMENT_BYTES) return this.#reject(name, 'malformed');
    if (Date.now() > this.#expires) return this.#expire(name); // timers do not run while a device sleeps
    const joiner = /** @type {Joiner} */ ({name, commitment});
    this.#joiner = joiner;
    this.setTimer(EXCHANGE_TIMEOUT, () => this.#interrupt('no-answer'));
    this.setState('exchanging');
    void this.#run(joiner, async () => {
      joiner.exchange = await KeyExchange.create({owner: this.name, joiner: name});
      if (joiner === this.#joiner) await this.send(name, {kind: 'key', key: joiner.exchange.publicKey});
    });
  }

  /**
   * @param {string} name
   * @param {string} reason
   */
  #reject(name, reason) {
    if (this.#rejections++ < MAX_REJECTIONS) void this.send(name, {kind: 'end', reason}).catch(() => {}); // it has left
  }

  /**
   * @param {Joiner} joiner
   * @param {unknown} key
   */
  async #onReveal(joiner, key) {
    if (!joiner.exchange || joiner.revealed) return;
    joiner.revealed = true;
    const agreement = await joiner.exchange.acceptReveal(joiner.commitment, key);
    if (joiner !== this.#joiner) return;
    joiner.agreement = agreement;
    this.digits = agreement.digits;
    this.setTimer(DECISION_TIMEOUT, () => this.#interrupt('expired'));
    this.setState('asked');
  }
}
