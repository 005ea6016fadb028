/**
 * A client for a mailbox on an inbox server, independent of WebRTC. Any site can
 * import it:
 *
 *     const inbox = new Inbox('https://example.org/inbox', {name: 'alice', password: 'secret'});
 *     inbox.addEventListener('message', event => console.log(event.detail.from, event.detail.data));
 *     inbox.start();
 *     await inbox.send('bob', {hello: 'there'}, {wait: 25});
 *
 * The client acknowledges messages: one survives network failures and crashes, but
 * can arrive twice. Messages to a recipient are sent in order. Each is retried until
 * the server accepts or rejects it.
 *
 * The client begins with long polling. A WebSocket, or else an event stream, takes its
 * place a second later; where a proxy breaks both, polling continues. The same holds for
 * each: docs/javascript.md has the details.
 *
 * Of several clients of one mailbox, the one that was started last gets the
 * messages. The others are superseded, also if they had no network at that time.
 * A client that returns after an outage continues if it was not superseded.
 *
 * A response that is not from an inbox server, such as a login page, is an error:
 * see the codes of {@link InboxError}.
 */

import {
  INITIAL_DELAY, InboxError, MAX_RETRY_DELAY, MAX_WAIT, WaitTime, decode, encode, endError, networkChange, problemError, randomClient, readResponse, replaced, retryDelay,
  takenOver, toInboxError,
} from './codec.js';
import {after, emit, on, onAbort, until} from './events.js';
import {Requests, TIMEOUT_MARGIN, onWake} from './requests.js';
import {poll} from './transport-poll.js';
import {broken} from './transports.js';

export {InboxError};

/** Milliseconds before the expected 404 at which a waiting POST is aborted. */
const ABORT_MARGIN = 1_000;
/** Maximum milliseconds between retries to a server that does not wait for the recipient. */
const MAX_RETRY_INTERVAL = 15_000;
/** Maximum number of queued messages per recipient. */
const MAX_QUEUE = 200;
/** Milliseconds between the first response of the server and a stream, which can wait until the page has what it needs. */
const UPGRADE_DELAY = 1_000;
/** Milliseconds in which a poll arrives at the server. */
const ARRIVAL_TIME = 1_000;
/** Number of recent messages whose repetition is dropped: twice the window of the server. */
const MAX_SEEN = 128;

/**
 * @typedef {{from: string, id: string, type: string, data: any}} Message
 *   data is the parsed value of JSON, a string for text, else an ArrayBuffer.
 * @typedef {'idle'|'open'|'retrying'|'superseded'|'refused'|'closed'} Status
 *   refused: the server is private, and the invitation is missing or has expired. `refusal` is
 *   the error; start() tries again
 * @typedef {'replaced'|'other-receiver'} SupersededReason
 *   replaced: another client was started while this one received; other-receiver: it was
 *   started before, for example while this device had no network
 * @typedef {import('./transports.js').Transport} Transport
 * @typedef {{message: CustomEvent<Message>, status: CustomEvent<Status>, error: CustomEvent<InboxError>, connection: CustomEvent<'lost'|'restored'>,
 *   transport: CustomEvent<Transport>, superseded: CustomEvent<SupersededReason>}} InboxEvents
 * @typedef {{seal: (data: any, to: string) => Promise<unknown>, open: (data: any, from: string) => Promise<unknown>}} MessageSealer
 *   seal changes the data of a message before it is sent, open restores the data of
 *   a received message. seal.js has one that encrypts signals.
 */

/**
 * Inbox is a mailbox. Events, all with a `detail`:
 * - message: a received {@link Message}
 * - status: the new {@link Status}
 * - error: an {@link InboxError}; if `retryIn` is not 0, the request is retried automatically
 * - connection: 'lost' when a stream was lost, or a poll failed because the server does not
 *   respond or is stopping, 'restored' when a poll succeeds again
 * - transport: the {@link Transport} that receives from now on
 * - superseded: another client now has this mailbox, for a {@link SupersededReason}.
 *   Sends are rejected; start() reclaims the mailbox
 */
export class Inbox extends /** @type {import('./events.js').TypedTarget<InboxEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /**
   * Maximum milliseconds before a failed request is retried, unless Retry-After is
   * longer. It can be lowered while a call depends on the server.
   */
  maxRetryDelay = MAX_RETRY_DELAY;
  /** @type {Map<string, {length: number, tail: Promise<void>}>} pending sends, by recipient */
  #queues = new Map();
  /** @type {Status} */
  #status = 'idle';
  /** Why the server refuses this client, in the status `refused`. @type {InboxError | null} */
  refusal = null;
  #connectionLost = false;
  /** Whether the next poll leaves the mailbox to another client that was started meanwhile. */
  #resume = false;
  /** Why the inbox is superseded if another client has the mailbox. @type {SupersededReason} */
  #otherReason = 'other-receiver';
  /** Settles when it is known that no other client was started during an outage. Sends wait for it. */
  #confirmed = Promise.resolve();
  /** Settles #confirmed, if it is pending. @type {(() => void) | null} */
  #confirm = null;
  /** Aborts the pending requests when the inbox is superseded or closed. */
  #stop = new AbortController();
  /** Aborts the present poll when a stream takes over. */
  #pollStop = new AbortController();
  /** Settles when the present poll has ended. */
  #polled = Promise.resolve();
  /** When it was sent, in milliseconds. */
  #polledAt = 0;
  /** The ID of the last message that was handled, which the next poll or stream acknowledges. */
  #lastId = '';
  /** The IDs of the messages that arrived last. @type {Set<string>} */
  #seen = new Set();
  /** Settles when the messages that have arrived are handled, one after the other. */
  #handled = Promise.resolve();
  /** Settles when the receive loop ends. A restart waits for it, so that only one loop runs. */
  #receiving = Promise.resolve();
  /** The shortest time in milliseconds that the server waited for a missing recipient. */
  #serverWait = Infinity;
  #waitTime = new WaitTime();
  #requests;
  #sealer;
  /** The streams to use, in order of preference. */
  #transports;
  /** What a stream needs. */
  #connection;
  /** Its code is loaded when the first poll has succeeded. @type {import('./streams.js').Streams | null} */
  #streams = null;
  #upgrading = false;

  /**
   * @param {string | URL} url the /inbox endpoint of the server
   * @param {object} options
   * @param {string} options.name
   * @param {string} options.password
   * @param {string | undefined} [options.client] distinguishes the clients of a mailbox: 1 to 64 letters,
   *   digits, hyphens or underscores, random by default
   * @param {typeof globalThis.fetch | undefined} [options.fetch]
   * @param {typeof globalThis.WebSocket | undefined} [options.WebSocket] by default that of the browser, or none with a `fetch`
   * @param {import('./transports.js').StreamName[] | undefined} [options.transports] the streams to use, in order of preference
   * @param {string | undefined} [options.invite] an invitation to a private server, or a guest pass
   * @param {MessageSealer | undefined} [options.sealer] a message that it cannot open is skipped, with an error `unreadable`
   */
  constructor(url, {
    name, password, client = randomClient(), fetch, WebSocket = fetch ? undefined : globalThis.WebSocket, transports = ['websocket', 'stream'], sealer,
    invite = '',
  }) {
    super();
    const {href} = new URL(url, globalThis.document?.baseURI);
    this.#sealer = sealer;
    this.#requests = new Requests(href, {name, password, invite, fetch});
    this.#transports = transports.filter(transport => transport !== 'websocket' || WebSocket);
    this.#connection = {url: href, name, password, client, WebSocket, requests: this.#requests, readResponse, problemError};
  }

  /** The /inbox endpoint of the server. */
  get url() {
    return this.#connection.url;
  }

  get name() {
    return this.#connection.name;
  }

  /** The Authorization value, for other endpoints of the server. */
  get authorization() {
    return this.#requests.authorization;
  }

  /** The invitation or guest pass. A new one is used from the next request or stream on. */
  get invite() {
    return this.#requests.invite;
  }

  set invite(invite) {
    this.#requests.invite = invite;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /** How messages arrive. Those to send take the WebSocket too, if there is one. */
  get transport() {
    return this.#streams?.transport ?? 'poll';
  }

  /**
   * Starts to receive, and takes the mailbox over from other clients. With `resume`, it
   * does not: if another client has the mailbox, this one is superseded. Does nothing
   * if the inbox is already receiving or closed.
   *
   * Resolves when the server has answered: true if this client has the mailbox. A
   * request that fails temporarily is retried first.
   * @param {{resume?: boolean}} [options]
   * @returns {Promise<boolean>}
   */
  async start({resume = false} = {}) {
    if (['idle', 'superseded', 'refused'].includes(this.#status)) {
      this.#resume = resume;
      if (resume) this.#doubt();
      this.#stop = new AbortController();
      this.#setStatus('retrying');
      onWake(online => online && broken.clear(), this.#stop.signal); // the device has another network
      this.#receiving = this.#receiving.then(() => this.#receiveLoop());
    }
    while (this.#status === 'retrying') await new Promise(resolve => this.addEventListener('status', resolve, {once: true}));
    return this.#status === 'open';
  }

  /** Aborts all requests. Queued messages are not sent. */
  close() {
    this.#end('closed');
  }

  /** @param {Status} status */
  #end(status) {
    this.#setStatus(status);
    this.#stop.abort();
    this.#endDoubt();
  }

  /** @param {SupersededReason} reason */
  #supersede(reason) {
    this.#end('superseded');
    emit(this, 'superseded', reason);
  }

  /**
   * Ends the inbox because the server is private, and refuses this client.
   * @param {InboxError} error
   */
  #refuse(error) {
    this.refusal = error;
    this.#end('refused');
    this.#setConnectionLost(true);
    this.#emitError(error);
  }

  /**
   * Notes that another client can have been started without the knowledge of this
   * one. Its messages must wait, because the recipients would take it for the newest.
   */
  #doubt() {
    this.#resume = true;
    if (!this.#confirm) this.#confirmed = new Promise(resolve => { this.#confirm = () => resolve(undefined); });
  }

  #endDoubt() {
    this.#confirm?.();
    this.#confirm = null;
  }

  /**
   * Closes the inbox and releases its name: the server deletes the mailbox with its
   * messages, unless another client has it by now. The request outlives the page and
   * is not retried; if it fails, the claim expires a minute later.
   */
  release() {
    const refused = this.#status === 'refused';
    this.close();
    if (!refused) this.#requests.sendLast('DELETE', {client: this.#connection.client});
  }

  /**
   * Sends data to another mailbox. Resolves when the server has stored it, and
   * rejects on a permanent error. With `wait`, a missing mailbox is an error only
   * after that many seconds; Infinity waits without limit. An aborted signal rejects with
   * its reason; the message can arrive nevertheless.
   * @param {string} to
   * @param {unknown} data a string, an ArrayBuffer or view, a Blob, or a value that JSON can represent
   * @param {{wait?: number, signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(to, data, {wait = 0, signal} = {}) {
    const queue = this.#queues.get(to) ?? {length: 0, tail: Promise.resolve()};
    if (queue.length >= MAX_QUEUE) {
      throw new InboxError('queue-full', 'too many messages to this recipient are pending');
    }
    const message = /** @type {Promise<import('./transports.js').Sendable>} */ (this.#encode(data, to));
    message.catch(() => {}); // handled below, after the earlier messages
    this.#queues.set(to, queue);
    queue.length++;
    const sent = queue.tail.then(async () => this.#deliver(to, await message, wait, signal)).finally(() => {
      if (--queue.length === 0) this.#queues.delete(to);
    });
    queue.tail = sent.catch(() => {}); // an error affects only its own message
    return unlessAborted(sent, signal);
  }

  /**
   * Encodes data, which the sealer of the inbox changes first.
   * @param {unknown} data
   * @param {string} to
   */
  async #encode(data, to) {
    return encode(this.#sealer ? await this.#sealer.seal(data, to) : data instanceof Blob ? await data.arrayBuffer() : data);
  }

  /**
   * Sends a last message when the page closes. The request bypasses the queue and
   * the sealer, which would need more time than a closing page has. It outlives the
   * page and is not retried.
   * @param {string} to
   * @param {unknown} data
   */
  sendLast(to, data) {
    if (this.#status !== 'refused') this.#requests.sendLast('POST', {to}, encode(data));
  }

  /**
   * Receives until the inbox is superseded or closed, by one poll at a time or one stream. The
   * first poll, and each poll after a failure or a stream, does not wait, so that its response
   * confirms the connection immediately. A poll that a proxy aborted, or a stream that was
   * lost, is an error only if the next poll fails as well.
   */
  async #receiveLoop() {
    let failures = 0;
    let confirming = true;
    while (!this.#stopped) {
      while (this.#streams?.takingOver) await this.#streams.takingOver;
      if (this.#stopped) return;
      const streams = this.#streams?.current ? this.#streams : null;
      const wait = confirming || this.#status !== 'open' ? 0 : this.#waitTime.seconds;
      const started = Date.now();
      try {
        await (streams ? this.#streamEnd(streams) : this.#poll(wait, confirming));
        if (!confirming) failures = 0;
        confirming = streams !== null;
      } catch (cause) {
        if (this.#stopped) return;
        const error = toInboxError(cause);
        if (error.code === 'other-receiver') return this.#supersede(this.#otherReason);
        if (isRefusal(error)) return this.#refuse(error);
        confirming = true;
        if (error.cause === takenOver) continue;
        if (error.code === 'network') this.#doubt();
        if (error.cause === replaced) continue;
        const aborted = streams ? error.cause === undefined && error.code === 'network' : this.#waitTime.shorten(error, wait, Date.now() - started);
        if (isConnectionLoss(error, aborted)) {
          this.#setConnectionLost(true);
          if (!streams && !aborted) this.#streams?.forgive();
        }
        if (aborted) await this.#sleep(retryDelay(error, 0));
        else await this.#backOff(error, failures++);
      }
    }
  }

  get #stopped() {
    return ['closed', 'superseded', 'refused'].includes(this.#status);
  }

  /**
   * Sends one poll. Each but the first of a start has `resume`: a client that is
   * started meanwhile keeps the mailbox, whichever poll the server gets first.
   * @param {number} wait seconds that the server should wait
   * @param {boolean} confirming whether the poll only confirms the connection
   */
  async #poll(wait, confirming) {
    const started = Date.now();
    const query = {after: this.#lastId, client: this.#connection.client, ...this.#resume && {resume: '1'}};
    this.#pollStop = new AbortController();
    this.#polledAt = started;
    const result = poll(this.#requests, query, wait, [this.#stop.signal, this.#pollStop.signal]);
    this.#polled = result.then(() => {}, () => {});
    const message = await result;
    if (this.#stopped) return;
    if (message === 'superseded') return this.#onSuperseded();
    this.#onConfirmed();
    void this.#upgrade();
    if (message) await this.#receive(message);
    else if (!confirming) await this.#onEmptyPoll(wait, Date.now() - started);
  }

  /** Opens a better transport than the present one, if one is due. The page loads its own parts first. */
  async #upgrade() {
    if (this.#upgrading || this.#transports.length === 0 || this.#streams?.due.length === 0) return;
    this.#upgrading = true;
    const {signal} = this.#stop;
    await this.#sleep(UPGRADE_DELAY);
    try {
      if (!signal.aborted) this.#streams ??= await this.#loadStreams();
      if (!signal.aborted) await this.#streams?.upgrade(signal);
    } catch { /* its code did not arrive */ }
    this.#upgrading = false;
  }

  async #loadStreams() {
    const {Streams} = await import('./streams.js');
    return new Streams({
      names: this.#transports,
      broken,
      connection: this.#connection,
      isConnected: () => this.#status === 'open' && !this.#connectionLost && globalThis.navigator?.onLine !== false,
      takeOver: () => this.#takeOver(),
      onMessage: message => this.#receive(message),
      onTransport: () => this.#onTransport(),
      onLost: () => this.#doubt(),
      onOtherReceiver: () => this.#supersede(this.#otherReason),
      upgrade: () => void this.#upgrade(),
      on,
      onWake,
    });
  }

  /** Notes that this client has the mailbox. */
  #onConfirmed() {
    this.#resume = true;
    this.#otherReason = 'other-receiver';
    this.#endDoubt();
    this.#setStatus('open');
    this.#setConnectionLost(false);
  }

  /**
   * Handles a poll that ended without a message, and limits the poll rate. A
   * server without long polling responds immediately.
   * @param {number} wait seconds that the poll asked for
   * @param {number} elapsed milliseconds
   */
  async #onEmptyPoll(wait, elapsed) {
    this.#waitTime.complete(wait, elapsed);
    if (elapsed < INITIAL_DELAY) await this.#sleep(2 * INITIAL_DELAY);
  }

  /**
   * Ends the present poll for a stream, when it has certainly arrived at the server: it would
   * supersede the stream. Returns the ID that the stream acknowledges.
   */
  async #takeOver() {
    await Promise.race([this.#polled, this.#sleep(this.#polledAt + ARRIVAL_TIME - Date.now())]);
    this.#pollStop.abort(takenOver);
    return this.#lastId;
  }

  /**
   * Ends the inbox because another client was started. If this client has just changed the
   * transport, its own request can have come late: the next poll shows who has the mailbox.
   */
  #onSuperseded() {
    if (!this.#streams?.hasSwitched) return this.#supersede('replaced');
    this.#otherReason = 'replaced';
    throw new InboxError('network', 'the connection was lost', {cause: replaced});
  }

  #onTransport() {
    if (this.#stopped) return;
    if (this.transport !== 'poll') this.#onConfirmed();
    emit(this, 'transport', this.transport);
  }

  /**
   * Waits for the end of the stream. Throws an InboxError if it is not one that a poll continues.
   * @param {import('./streams.js').Streams} streams
   */
  async #streamEnd(streams) {
    const end = await streams.ended;
    if (this.#stopped || end === 'taken-over') return;
    if (end === 'superseded') return this.#onSuperseded();
    if (end === 'stopping') throw new InboxError('stopping', 'the server is shutting down', {retryAfter: 1});
    if (end === 'claim-ended') return void (streams.age < INITIAL_DELAY && await this.#sleep(2 * INITIAL_DELAY));
    const cause = end === 'offline' ? networkChange : end === 'replaced' ? replaced : undefined;
    throw new InboxError('network', 'the connection was lost', {cause});
  }

  /**
   * Dispatches a message, after those that arrived before it. The next poll, or an
   * acknowledgement of the stream, acknowledges it later, so a message that is being
   * handled during a crash is delivered again. Drops one that arrived before.
   * @param {import('./transports.js').WireMessage} message
   */
  #receive(message) {
    const isRepeated = this.#seen.has(message.id);
    this.#seen.add(message.id);
    if (this.#seen.size > MAX_SEEN) this.#seen.delete(/** @type {string} */ (this.#seen.values().next().value));
    return this.#handled = this.#handled.then(async () => {
      if (isRepeated || this.#stopped) return;
      await this.#dispatchMessage(message);
      this.#lastId = message.id;
    });
  }

  /** @param {import('./transports.js').WireMessage} message */
  async #dispatchMessage({id, from: encodedFrom, type, body}) {
    try {
      const from = decodeURIComponent(encodedFrom);
      const decoded = decode(type, body);
      const data = this.#sealer ? await this.#sealer.open(decoded, from) : decoded;
      if (!this.#stopped) emit(this, 'message', {from, id, type, data});
    } catch (cause) {
      this.#emitError(new InboxError('unreadable', `a message was skipped: ${cause}`, {cause}));
    }
  }

  /**
   * Sends a message, with retries, over the WebSocket or with a POST. One that was not answered
   * when the WebSocket was lost is sent again. A POST that a proxy aborted while it waited is
   * repeated; a second time in a row is an error.
   * @param {string} to
   * @param {import('./transports.js').Sendable} message
   * @param {number} wait seconds to wait for the recipient
   * @param {AbortSignal} [signal]
   */
  async #deliver(to, message, wait, signal) {
    const until = Date.now() + wait * 1000;
    for (let failures = 0, attempts = 0, wasAborted = false; ; ) {
      await this.#confirmed;
      signal?.throwIfAborted();
      if (this.#stopped) throw endError(this);
      const started = Date.now();
      const remaining = Math.max(0, until - started);
      const seconds = Math.min(this.#waitTime.seconds, Math.ceil(remaining / 1000));
      try {
        if (!await this.#sendOverStream(to, message, remaining, signal)) await this.#post(to, message, seconds, remaining, signal);
        if (this.#status === 'retrying') this.#setStatus('open');
        return;
      } catch (cause) {
        const error = toInboxError(cause);
        if (this.#stopped || signal?.aborted || error.cause === replaced) continue;
        const elapsed = Date.now() - started;
        const absent = error.code === 'no-inbox' && until > Date.now();
        const aborted = this.#waitTime.shorten(error, seconds, elapsed);
        if (absent) await this.#waitToRetry(seconds, elapsed, attempts++, to, until);
        else if (aborted && !wasAborted) await this.#sleep(retryDelay(error, 0));
        else if (error.temporary) await this.#backOff(error, failures++);
        else if (error.code !== 'recipient-absent') throw this.#emitError(error);
        wasAborted = aborted;
      }
    }
  }

  /**
   * Sends a message over the WebSocket. Returns false if there is none, or it cannot take the
   * message.
   * @param {string} to
   * @param {import('./transports.js').Sendable} message
   * @param {number} remaining milliseconds until the send gives up
   * @param {AbortSignal} [signal]
   */
  async #sendOverStream(to, message, remaining, signal) {
    const stream = this.#streams?.current;
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
   * @param {string} to
   * @param {import('./requests.js').Body} message
   * @param {number} seconds the time that the server should wait for the recipient
   * @param {number} remaining milliseconds until the send gives up
   * @param {AbortSignal} [signal]
   */
  async #post(to, message, seconds, remaining, signal) {
    const waited = Math.min(this.#serverWait, this.#waitTime.seconds * 1000);
    const willRetry = remaining > waited && waited >= 2 * ABORT_MARGIN;
    /** @type {Record<string, string>} */
    const query = seconds > 0 ? {to, wait: String(seconds)} : {to};
    const limit = willRetry ? waited - ABORT_MARGIN : seconds * 1000 + TIMEOUT_MARGIN;
    await this.#requests.send('POST', query, {message, limit, willRetry, signals: [this.#stop.signal, signal]});
  }

  /**
   * Waits after a 404, which shows that the server waits for less time than
   * requested, or not at all. If it does not wait, each POST ends with a 404 in the
   * console, so the retries back off. A message from the recipient ends the
   * delay, because it proves that the recipient exists.
   * @param {number} seconds the wait that the POST asked for
   * @param {number} waited milliseconds that the server waited
   * @param {number} attempts number of earlier 404 responses
   * @param {string} to
   * @param {number} until deadline in milliseconds, as from Date.now()
   */
  async #waitToRetry(seconds, waited, attempts, to, until) {
    if (waited < seconds * 1000) this.#serverWait = Math.min(this.#serverWait, waited);
    const delay = Math.min(this.#serverWait, seconds * 1000) >= 2 * ABORT_MARGIN
      ? ABORT_MARGIN
      : Math.min(MAX_RETRY_INTERVAL, 2 ** attempts * ABORT_MARGIN);
    await this.#sleep(Math.min(delay, until - Date.now()), {from: to});
  }

  /**
   * Reports a temporary failure and waits before the next attempt.
   * @param {InboxError} error
   * @param {number} failures number of earlier failures
   */
  async #backOff(error, failures) {
    const delay = retryDelay(error, failures, this.maxRetryDelay);
    error.retryIn = delay / 1000;
    if (this.#status === 'open') this.#setStatus('retrying');
    this.#emitError(error);
    await this.#sleep(delay, {minimum: error.retryAfter * 1000});
  }

  /**
   * Waits. The end of the inbox, a page that becomes active and a device that comes
   * back online end the delay early.
   * @param {number} milliseconds
   * @param {{minimum?: number, from?: string}} [options] the minimum in milliseconds
   *   holds for the latter two; the next message of the sender `from` ends the delay as well
   */
  #sleep(milliseconds, {minimum = 0, from} = {}) {
    const started = Date.now();
    return until((resolve, _reject, signal) => {
      after(milliseconds, resolve, signal);
      onAbort(this.#stop.signal, resolve, signal);
      on(this, 'message', ({detail}) => detail.from === from && resolve(), signal);
      onWake(() => Date.now() - started >= minimum && resolve(), signal);
    });
  }

  /** @param {Status} status */
  #setStatus(status) {
    if (this.#status === status || this.#status === 'closed') return;
    this.#status = status;
    emit(this, 'status', status);
  }

  /** @param {boolean} lost */
  #setConnectionLost(lost) {
    if (this.#connectionLost === lost) return;
    this.#connectionLost = lost;
    emit(this, 'connection', lost ? 'lost' : 'restored');
  }

  /** @param {InboxError} error */
  #emitError(error) {
    emit(this, 'error', error);
    return error;
  }
}

/**
 * Resolves or rejects as a promise, or rejects when a signal is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function unlessAborted(promise, signal) {
  return until((resolve, reject, scope) => {
    onAbort(signal, reject, scope);
    promise.then(resolve, reject);
  });
}

/**
 * Reports whether a poll failed because the server does not respond, so that it
 * can have restarted. The response of a proxy that aborts a long poll does not
 * show that.
 * @param {InboxError} error
 * @param {boolean} aborted whether the error can be the timeout of a proxy
 */
function isConnectionLoss({code, status}, aborted) {
  return code === 'network' || code === 'stopping' || (code === 'refused' && status >= 500 && !aborted);
}

/**
 * Whether a private server refuses a client, whose requests fail until it has another invitation.
 * @param {InboxError} error
 */
function isRefusal({code}) {
  return code === 'invitation-required' || code === 'invitation-expired';
}
