/**
 * StreamInbox is an Inbox for networks as they are. It receives and sends over a WebSocket, or
 * else receives an event stream, which takes the place of the polls a second after the first
 * one; where a proxy breaks both, polling continues. It adapts its waits to proxies that abort
 * requests, and continues at once when the page becomes active or the device is online again:
 *
 *     const inbox = new StreamInbox('https://example.org/inbox', {name: 'alice', password: 'secret'});
 *
 * The same holds for each transport: docs/javascript.md has the details.
 */

import {INITIAL_DELAY, InboxError, MAX_WAIT, TIMEOUT_MARGIN, problemError, readResponse, retryAfter, retryDelay, toInboxError} from './codec.js';
import {after, defer, emit, on, onAbort, serial, unlessAborted, until} from './events.js';
import {Inbox} from './inbox.js';
import {Streams} from './streams.js';
import {broken} from './transports.js';
import {WaitTime, absent, networkChange, replaced, takenOver} from './wait-time.js';
import {onWake} from './wake.js';

export {InboxError};

/** Milliseconds before the expected 404 at which a waiting POST is aborted. */
const ABORT_MARGIN = 1_000;
/** Milliseconds between the first response of the server and a stream, which can wait until the page has what it needs. */
const UPGRADE_DELAY = 1_000;
/** Milliseconds in which a poll arrives at the server. */
const ARRIVAL_TIME = 1_000;
/** Maximum milliseconds between retries to a server that does not wait for the recipient. */
const MAX_ABSENT_DELAY = 15_000;
/** Number of recent messages whose repetition is dropped: twice the window of the server. */
const MAX_SEEN = 128;

/**
 * @typedef {import('./inbox.js').Delivery} Delivery
 * @typedef {import('./transports.js').Transport} Transport
 * @typedef {import('./transports.js').WireMessage} WireMessage
 *
 * @typedef {{seal: (data: any, to: string) => Promise<unknown>, open: (data: any, from: string) => Promise<unknown>}} MessageSealer
 *   seal changes the data of a message before it is sent, open restores the data of
 *   a received message. seal.js has one that encrypts signals.
 *
 * @typedef {object} StreamOptions
 * @property {typeof globalThis.WebSocket | undefined} [WebSocket] by default that of the browser, or none with a `fetch`
 * @property {import('./transports.js').StreamName[] | undefined} [transports] the streams to use, in order of preference
 * @property {MessageSealer | undefined} [sealer] a message that it cannot open is skipped, with an error `unreadable`
 */

/**
 * StreamInbox has two more events, with a `detail`:
 * - connection: 'lost' when a stream was lost, or a poll failed because the server does not
 *   respond or is stopping, 'restored' when a poll succeeds again
 * - transport: the {@link Transport} that receives from now on
 */
export class StreamInbox extends Inbox {
  /** Why the inbox is superseded if another client has the mailbox. @type {import('./inbox.js').SupersededReason} */
  #otherReason = 'other-receiver';
  /** Aborts the present poll when a stream takes over. */
  #pollStop = new AbortController();
  /** Settles when the present poll has ended. @type {Promise<unknown>} */
  #polled = Promise.resolve();
  /** When it was sent, in milliseconds. */
  #polledAt = 0;
  /** The IDs of the messages that arrived last. @type {Set<string>} */
  #seen = new Set();
  /** Settles when the messages that have arrived are handled, one after the other. */
  #handled = Promise.resolve();
  /** The shortest time in milliseconds that the server waited for a missing recipient. */
  #serverWait = Infinity;
  #waitTime = new WaitTime();
  /** The deliveries whose last request a proxy aborted while it waited. @type {WeakSet<Delivery>} */
  #aborted = new WeakSet();
  #upgrading = false;
  /** Whether a stream has received last, in place of a poll. */
  #isStreaming = false;
  #connectionLost = false;
  /** Settles when it is known that no other client was started during an outage. Sends wait for it. @type {ReturnType<typeof defer<void>> | null} */
  #doubt = null;
  /** How often a delivery was answered because its recipient does not exist. @type {WeakMap<Delivery, number>} */
  #attempts = new WeakMap();
  #seals = serial();
  #sealer;
  #streams;

  /**
   * @param {string | URL} url the /inbox endpoint of the server
   * @param {import('./inbox.js').Options & StreamOptions} options
   */
  constructor(url, {transports = ['websocket', 'stream'], WebSocket, sealer, ...options}) {
    super(url, options);
    this.#sealer = sealer;
    const Socket = WebSocket ?? (options.fetch ? undefined : globalThis.WebSocket);
    const {name, password} = options;
    this.#streams = new Streams({
      names: transports.filter(transport => transport !== 'websocket' || Socket),
      broken,
      connection: {url: this.url, name, password, client: this.client, WebSocket: Socket, inbox: this, readResponse, problemError},
      isConnected: () => this.status === 'open' && !this.#connectionLost && globalThis.navigator?.onLine !== false,
      takeOver: () => this.#takeOver(),
      onMessage: message => this.onMessage(message),
      onTransport: () => this.#onTransport(),
      onLost: () => this.doubt(),
      onOtherReceiver: () => this.supersede('other-receiver'),
      upgrade: () => void this.#upgrade(),
      on,
      onWake,
    });
  }

  /** How messages arrive. Those to send take the WebSocket too, if there is one. */
  get transport() {
    return this.#streams.transport;
  }

  /** @override @param {{resume?: boolean}} [options] */
  start(options) {
    const {stop} = this;
    const started = super.start(options);
    if (this.stop !== stop) onWake(online => online && broken.clear(), this.stop.signal); // the device has another network
    return started;
  }

  /** A server that refuses this client gets no request. @override @param {string} to @param {unknown} data */
  sendLast(to, data) {
    if (this.status !== 'refused') super.sendLast(to, data);
  }

  /** @override */
  release() {
    if (this.status === 'refused') this.close();
    else super.release();
  }

  /** @override @internal */
  get maxWait() {
    return this.#waitTime.seconds;
  }

  /**
   * Waits for the end of the stream, if there is one, or sends a poll.
   * @override
   * @param {number} wait
   * @param {boolean} confirming
   * @returns {Promise<boolean | void>}
   * @internal
   */
  async receiveOnce(wait, confirming) {
    while (this.#streams.takingOver) await this.#streams.takingOver;
    if (this.stopped) return false;
    try {
      this.#isStreaming = this.#streams.current !== null;
      if (this.#isStreaming) {
        await this.#streamEnd();
        return true;
      }
      this.#pollStop = new AbortController();
      this.#polledAt = Date.now();
      const polled = super.receiveOnce(wait, confirming, this.#pollStop.signal);
      this.#polled = polled.catch(() => {});
      return await polled;
    } catch (error) {
      const {cause} = toInboxError(error);
      if (this.stopped || (cause !== replaced && cause !== takenOver)) throw error;
      if (cause === replaced) this.doubt();
      return true;
    }
  }

  /**
   * Waits for the end of the stream. Throws an InboxError if it is not one that a poll continues.
   */
  async #streamEnd() {
    const streams = this.#streams;
    const end = await streams.ended;
    if (this.stopped || end === 'taken-over') return;
    if (end === 'superseded') return this.supersede('replaced');
    if (end === 'stopping') throw new InboxError('stopping', 'the server is shutting down', {retryAfter: 1});
    if (end === 'claim-ended') return void (streams.age < INITIAL_DELAY && await this.sleep(2 * INITIAL_DELAY));
    const cause = end === 'offline' ? networkChange : end === 'replaced' ? replaced : undefined;
    throw new InboxError('network', 'the connection was lost', {cause});
  }

  /**
   * A stream that was lost, or a poll that a proxy aborted, is an error only if the next poll
   * fails as well.
   * @override
   * @param {InboxError} error
   * @param {number} wait
   * @param {number} elapsed
   * @internal
   */
  isExpected(error, wait, elapsed) {
    if (this.#isStreaming) {
      const isLost = error.cause === undefined && error.code === 'network';
      if (isConnectionLoss(error, isLost)) this.#setConnectionLost(true);
      return isLost;
    }
    const isTimeout = this.#waitTime.shorten(error, wait, elapsed);
    if (isConnectionLoss(error, isTimeout)) {
      this.#setConnectionLost(true);
      if (!isTimeout) this.#streams.forgive();
    }
    return isTimeout;
  }

  /** @param {boolean} lost */
  #setConnectionLost(lost) {
    if (this.#connectionLost === lost) return;
    this.#connectionLost = lost;
    emit(this, 'connection', lost ? 'lost' : 'restored');
  }

  /** Opens a better transport than the present one, if one is due. */
  async #upgrade() {
    if (this.#upgrading || this.#streams.due.length === 0) return;
    this.#upgrading = true;
    const {signal} = this.stop;
    await this.sleep(UPGRADE_DELAY);
    if (!signal.aborted) await this.#streams.upgrade(signal);
    this.#upgrading = false;
  }

  /**
   * Ends the present poll for a stream, when it has certainly arrived at the server: it would
   * supersede the stream. Returns the ID that the stream acknowledges.
   */
  async #takeOver() {
    await Promise.race([this.#polled, this.sleep(this.#polledAt + ARRIVAL_TIME - Date.now())]);
    this.#pollStop.abort(takenOver);
    return this.lastId;
  }

  #onTransport() {
    if (this.stopped) return;
    if (this.transport !== 'poll') this.confirm();
    emit(this, 'transport', this.transport);
  }

  /**
   * Its messages must wait then, because the recipients would take it for the newest client.
   * @override
   * @internal
   */
  doubt() {
    super.doubt();
    this.#doubt ??= defer();
  }

  #endDoubt() {
    this.#doubt?.resolve();
    this.#doubt = null;
  }

  /** @override @param {import('./inbox.js').Status} status @internal */
  end(status) {
    super.end(status);
    this.#endDoubt();
    if (status === 'refused') this.#setConnectionLost(true);
  }

  /**
   * Changes data with the sealer first, in the order of the calls.
   * @override
   * @param {string} to
   * @param {unknown} data
   * @param {{wait?: number, signal?: AbortSignal | undefined}} [options]
   */
  async send(to, data, options) {
    const sealer = this.#sealer;
    if (!sealer) return super.send(to, data, options);
    const {sent} = await this.#seals(async () => ({sent: super.send(to, await sealer.seal(data, to), options)}));
    return sent;
  }

  /** @override @param {string} type @param {ArrayBuffer | string} body @param {string} from @returns {Promise<any>} @internal */
  async decode(type, body, from) {
    const data = super.decode(type, typeof body === 'string' ? new TextEncoder().encode(body).buffer : body, from);
    return this.#sealer ? this.#sealer.open(data, from) : data;
  }

  /** @override @param {Response} [response] @internal */
  confirm(response) {
    const pause = response ? retryAfter(response) : 0;
    if (pause > 0) throw new InboxError('stopping', 'the server is shutting down', {status: 204, retryAfter: pause});
    this.#otherReason = 'other-receiver';
    super.confirm();
    this.#endDoubt();
    this.#setConnectionLost(false);
    if (this.transport === 'poll') void this.#upgrade();
  }

  /**
   * Ends the inbox because another client was started. If this client has just changed the
   * transport, its own request can have come late: the next poll shows who has the mailbox.
   * @override
   * @param {import('./inbox.js').SupersededReason} reason
   * @internal
   */
  supersede(reason) {
    if (reason === 'replaced' && this.#streams.hasSwitched) {
      this.#otherReason = reason;
      throw new InboxError('network', 'the connection was lost', {cause: replaced});
    }
    super.supersede(reason === 'replaced' ? reason : this.#otherReason);
  }

  /** @override @param {number} wait @param {number} elapsed @internal */
  async onEmptyPoll(wait, elapsed) {
    this.#waitTime.complete(wait, elapsed);
    await super.onEmptyPoll(wait, elapsed);
  }

  /**
   * Handles a message after those that arrived before it. Drops one that arrived before, over
   * another transport.
   * @override
   * @param {WireMessage} message
   * @returns {Promise<void>}
   * @internal
   */
  onMessage(message) {
    const isRepeated = this.#seen.has(message.id);
    this.#seen.add(message.id);
    if (this.#seen.size > MAX_SEEN) this.#seen.delete(/** @type {string} */ (this.#seen.values().next().value));
    return this.#handled = this.#handled.then(async () => {
      if (!isRepeated && !this.stopped) await super.onMessage(message);
    });
  }

  /**
   * Sends a message over the WebSocket or with a POST. One that was not answered when the
   * WebSocket was lost is sent again. A POST that a proxy aborted while it waited is repeated;
   * a second time in a row is an error.
   * @override
   * @param {Delivery} delivery
   * @internal
   */
  async deliverOnce(delivery) {
    const {end, signal} = delivery;
    await this.#doubt?.promise;
    if (this.stopped || signal?.aborted) return false;
    const started = Date.now();
    const remaining = Math.max(0, end - started);
    const seconds = Math.min(this.#waitTime.seconds, Math.ceil(remaining / 1000));
    const wasAborted = this.#aborted.delete(delivery);
    try {
      return await this.#sendOverStream(delivery, remaining) || await this.#post(delivery, seconds, remaining);
    } catch (cause) {
      const error = toInboxError(cause);
      if (this.stopped || signal?.aborted || error.cause === replaced) return false;
      const elapsed = Date.now() - started;
      const isAborted = this.#waitTime.shorten(error, seconds, elapsed);
      if (isAborted) this.#aborted.add(delivery);
      if (error.code === 'no-inbox' && end > Date.now()) await this.#onAbsent(delivery, seconds, elapsed);
      else if (isAborted && !wasAborted) await this.sleep(retryDelay(error, 0));
      else throw error;
      return false;
    }
  }

  /**
   * Sends a message over the WebSocket. Returns false if there is none, or it cannot take the
   * message.
   * @param {Delivery} delivery
   * @param {number} remaining milliseconds until the send gives up
   */
  async #sendOverStream({to, message, signal}, remaining) {
    const stream = this.#streams.current;
    if (message.body instanceof Blob) message.body = new Uint8Array(await message.body.arrayBuffer());
    const {length} = message.body;
    const maxSize = typeof message.body === 'string' ? 3 * length : length;
    if (!stream?.send || maxSize > (stream.maxBodyBytes ?? 0)) return false;
    const stored = stream.send(to, message, Math.min(MAX_WAIT, Math.ceil(remaining / 1000)));
    try {
      if (stored) await unlessAborted(stored, signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw error ?? new InboxError('network', 'the connection was lost', {cause: replaced});
    }
    return stored !== null;
  }

  /**
   * Sends one POST. While the recipient does not exist, the server waits, then
   * responds with 404. Browsers log a 404 to the console, so a POST that will be
   * retried is aborted shortly before. If the server stores the message at that
   * moment, the retry delivers it twice.
   * @param {Delivery} delivery
   * @param {number} seconds the time that the server should wait for the recipient
   * @param {number} remaining milliseconds until the send gives up
   */
  async #post({to, message, signal}, seconds, remaining) {
    const waited = Math.min(this.#serverWait, this.#waitTime.seconds * 1000);
    const willRetry = remaining > waited && waited >= 2 * ABORT_MARGIN;
    /** @type {Record<string, string>} */
    const query = seconds > 0 ? {to, wait: String(seconds)} : {to};
    if (!willRetry) {
      await this.request('POST', query, {message, limit: seconds * 1000 + TIMEOUT_MARGIN, signal});
      return true;
    }
    const limit = new AbortController();
    return until((/** @type {(isSent: boolean) => void} */ resolve, reject, scope) => {
      onAbort(signal, reason => limit.abort(reason), scope);
      after(waited - ABORT_MARGIN, () => limit.abort(absent), scope);
      this.request('POST', query, {message, signal: limit.signal, limit: waited}).then(() => resolve(true), error => (error.cause === absent ? resolve(false) : reject(error)));
    });
  }

  /**
   * Waits after a 404, which shows that the server waits for less time than
   * requested, or not at all. If it does not wait, each POST ends with a 404 in the
   * console, so the retries back off. A message from the recipient ends the
   * delay, because it proves that the recipient exists.
   * @param {Delivery} delivery
   * @param {number} seconds the wait that the POST asked for
   * @param {number} waited milliseconds that the server waited
   */
  async #onAbsent(delivery, seconds, waited) {
    if (waited < seconds * 1000) this.#serverWait = Math.min(this.#serverWait, waited);
    const attempts = this.#attempts.get(delivery) ?? 0;
    this.#attempts.set(delivery, attempts + 1);
    const hasWaited = Math.min(this.#serverWait, seconds * 1000) >= 2 * ABORT_MARGIN;
    const delay = Math.min(MAX_ABSENT_DELAY, ABORT_MARGIN * (hasWaited ? 1 : 2 ** attempts));
    await this.sleep(Math.min(delay, delivery.end - Date.now()), {from: delivery.to});
  }

  /**
   * A page that becomes active and a device that comes back online end the delay as well.
   * @override
   * @param {number} milliseconds
   * @param {{minimum?: number, from?: string}} [options] the minimum in milliseconds holds for these
   * @returns {Promise<void>}
   * @internal
   */
  sleep(milliseconds, {minimum = 0, from} = {}) {
    const started = Date.now();
    return until((resolve, reject, scope) => {
      after(milliseconds, resolve, scope);
      onAbort(this.stop.signal, resolve, scope);
      on(this, 'message', ({detail}) => detail.from === from && resolve(), scope);
      onWake(() => Date.now() - started >= minimum && resolve(), scope);
    });
  }

  /**
   * A request that waits does not notice that its connection is dead, so it is repeated when
   * the page becomes active or is online again.
   * @override
   * @param {string} method
   * @param {import('./inbox.js').Query} query
   * @param {import('./inbox.js').RequestOptions} [options]
   * @returns {ReturnType<Inbox['request']>}
   * @internal
   */
  request(method, query, options) {
    const started = Date.now();
    return until((resolve, reject, scope) => {
      const abort = new AbortController();
      onAbort(options?.signal, reason => abort.abort(reason), scope);
      on(globalThis, 'offline', () => abort.abort(networkChange), scope);
      onWake((_online, minAge) => Date.now() - started >= minAge && abort.abort(replaced), scope);
      super.request(method, query, {...options, signal: abort.signal}).then(resolve, reject);
    });
  }
}

/**
 * Reports whether a poll failed because the server does not respond, so that it
 * can have restarted. The response of a proxy that aborts a long poll does not
 * show that.
 * @param {InboxError} error
 * @param {boolean} isExpected whether the error can be the timeout of a proxy
 */
function isConnectionLoss({code, status}, isExpected) {
  return code === 'network' || code === 'stopping' || (code === 'refused' && status >= 500 && !isExpected);
}
