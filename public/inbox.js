/**
 * A client for a mailbox on an inbox server, independent of WebRTC. Any site can
 * import it:
 *
 *     const inbox = new Inbox('https://example.org/inbox', {name: 'alice', password: 'secret'});
 *     inbox.addEventListener('message', event => console.log(event.detail.from, event.detail.data));
 *     inbox.start();
 *     await inbox.send('bob', {hello: 'there'}, {wait: 25});
 *
 * The client polls with acknowledgements: a message survives network failures
 * and crashes, but can arrive twice. Messages to a recipient are sent in order.
 * Each is retried until the server accepts or rejects it.
 *
 * Of several clients of one mailbox, the one that was started last gets the
 * messages. The others are superseded, also if they had no network at that time.
 * A client that returns after an outage continues if it was not superseded.
 *
 * A response that is not from an inbox server, such as a login page, is an error:
 * see the codes of {@link InboxError}.
 */

import {
  INITIAL_DELAY, InboxError, MAX_RETRY_DELAY, WaitTime, basicAuth, decode, encode, networkChange, randomClient, readResponse, replaced, retryAfter,
  retryDelay, toInboxError,
} from './codec.js';

export {InboxError};

/** Milliseconds that a request can take beyond its wait before it times out. */
const TIMEOUT_MARGIN = 10_000;
/** Milliseconds before the expected 404 at which a waiting POST is aborted. */
const ABORT_MARGIN = 1_000;
/** Maximum milliseconds between retries to a server that does not wait for the recipient. */
const MAX_RETRY_INTERVAL = 15_000;
/** Maximum number of queued messages per recipient. */
const MAX_QUEUE = 200;
/** Age in milliseconds of a request that is repeated when the page becomes active, or is online again. */
const MIN_AGE_ACTIVE = 3_000;
const MIN_AGE_ONLINE = 500;

/**
 * @typedef {{from: string, id: string, type: string, data: unknown}} Message
 *   data is the parsed value of JSON, a string for text, else an ArrayBuffer.
 * @typedef {'idle'|'open'|'retrying'|'superseded'|'closed'} Status
 * @typedef {'replaced'|'other-receiver'} SupersededReason
 *   replaced: another client was started while this one polled; other-receiver: it was
 *   started before, for example while this device had no network
 * @typedef {{seal: (data: any, to: string) => Promise<unknown>, open: (data: any, from: string) => Promise<unknown>}} MessageSealer
 *   seal changes the data of a message before it is sent, open restores the data of
 *   a received message. seal.js has one that encrypts signals.
 */

/**
 * Inbox is a mailbox. Events, all with a `detail`:
 * - message: a received {@link Message}
 * - status: the new {@link Status}
 * - error: an {@link InboxError}; if `retryIn` is not 0, the request is retried automatically
 * - connection: 'lost' when a poll failed because the server does not respond or
 *   is stopping, 'restored' when a poll succeeds again
 * - superseded: another client now polls this mailbox, for a {@link SupersededReason}.
 *   Sends are rejected; start() reclaims the mailbox
 */
export class Inbox extends EventTarget {
  /**
   * Maximum milliseconds before a failed request is retried, unless Retry-After is
   * longer. It can be lowered while a call depends on the server.
   */
  maxRetryDelay = MAX_RETRY_DELAY;
  /** @type {Map<string, {length: number, tail: Promise<void>}>} pending sends, by recipient */
  #queues = new Map();
  /** @type {Status} */
  #status = 'idle';
  #connectionLost = false;
  /** Whether the next poll leaves the mailbox to another client that was started meanwhile. */
  #resume = false;
  /** Settles when it is known that no other client was started during an outage. Sends wait for it. */
  #confirmed = Promise.resolve();
  /** Settles #confirmed, if it is pending. @type {(() => void) | null} */
  #confirm = null;
  /** Aborts the pending requests when the inbox is superseded or closed. */
  #stop = new AbortController();
  #lastId = '';
  /** Settles when the poll loop ends. A restart waits for it, so that only one loop runs. */
  #polling = Promise.resolve();
  /** The shortest time in milliseconds that the server waited for a missing recipient. */
  #serverWait = Infinity;
  #waitTime = new WaitTime();
  #url;
  #authorization;
  #client;
  #fetch;
  #sealer;

  /**
   * @param {string | URL} url the /inbox endpoint of the server
   * @param {{name: string, password: string, client?: string, fetch?: typeof fetch, sealer?: MessageSealer}} options
   *   client distinguishes the clients of a mailbox: 1 to 64 letters, digits, hyphens
   *   or underscores, random by default. A message that the sealer cannot open is
   *   skipped, with an error `unreadable`
   */
  constructor(url, {name, password, client = randomClient(), fetch: customFetch, sealer}) {
    super();
    this.#url = String(url);
    this.#authorization = basicAuth(name, password);
    this.#client = client;
    this.#fetch = customFetch ?? ((...request) => fetch(...request));
    this.#sealer = sealer;
  }

  /** The Authorization value, for other endpoints of the server. */
  get authorization() {
    return this.#authorization;
  }

  /** @returns {Status} */
  get status() {
    return this.#status;
  }

  /**
   * Starts to poll, and takes the mailbox over from other clients. With `resume`, it
   * does not: if another client has the mailbox, this one is superseded. Does nothing
   * if the inbox is already polling or closed.
   *
   * Resolves when the server has answered: true if this client has the mailbox. A
   * request that fails temporarily is retried first.
   * @param {{resume?: boolean}} [options]
   * @returns {Promise<boolean>}
   */
  async start({resume = false} = {}) {
    if (this.#status === 'idle' || this.#status === 'superseded') {
      this.#resume = resume;
      if (resume) this.#doubt();
      this.#stop = new AbortController();
      this.#setStatus('retrying');
      this.#polling = this.#polling.then(() => this.#pollLoop());
    }
    while (this.#status === 'retrying') await new Promise(resolve => this.addEventListener('status', resolve, {once: true}));
    return this.#status === 'open';
  }

  /** Aborts all requests. Queued messages are not sent. */
  close() {
    this.#setStatus('closed');
    this.#stop.abort();
    this.#endDoubt();
  }

  /** @param {SupersededReason} reason */
  #supersede(reason) {
    this.#setStatus('superseded');
    this.#stop.abort();
    this.#endDoubt();
    this.dispatchEvent(new CustomEvent('superseded', {detail: reason}));
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
    this.close();
    this.#fetch(this.#urlWith({client: this.#client}), {...this.#requestOptions('DELETE'), keepalive: true}).catch(() => {}); // the claim expires
  }

  /**
   * Sends data to another mailbox. Resolves when the server has stored it, and
   * rejects on a permanent error. With `wait`, a missing mailbox is an error only
   * after that many seconds; Infinity waits without limit.
   * @param {string} to
   * @param {unknown} data a string, an ArrayBuffer or view, a Blob, or a value that JSON can represent
   * @param {{wait?: number}} [options]
   * @returns {Promise<void>}
   */
  async send(to, data, {wait = 0} = {}) {
    const queue = this.#queues.get(to) ?? {length: 0, tail: Promise.resolve()};
    if (queue.length >= MAX_QUEUE) {
      throw new InboxError('queue-full', `queue full: ${MAX_QUEUE} messages to this recipient are pending`);
    }
    const message = this.#encode(data, to);
    message.catch(() => {}); // handled below, after the earlier messages
    this.#queues.set(to, queue);
    queue.length++;
    const sent = queue.tail.then(async () => this.#deliver(to, await message, wait));
    queue.tail = sent.catch(() => {}); // an error affects only its own message
    try {
      await sent;
    } finally {
      if (--queue.length === 0) this.#queues.delete(to);
    }
  }

  /**
   * Encodes data, which the sealer of the inbox changes first.
   * @param {unknown} data
   * @param {string} to
   */
  async #encode(data, to) {
    return encode(this.#sealer ? await this.#sealer.seal(data, to) : data);
  }

  /**
   * Sends a last message when the page closes. The request bypasses the queue and
   * the sealer, which would need more time than a closing page has. It outlives the
   * page and is not retried.
   * @param {string} to
   * @param {unknown} data
   */
  sendLast(to, data) {
    const options = {...this.#requestOptions('POST', encode(data)), keepalive: true};
    this.#fetch(this.#urlWith({to}), options).catch(() => {}); // the page is closing
  }

  /**
   * Polls until the inbox is superseded or closed, one request at a time. The
   * first poll, and each poll after a failure, does not wait, so that its response
   * confirms the connection immediately. A poll that a proxy aborted is an error
   * only if the next poll fails as well.
   */
  async #pollLoop() {
    let failures = 0;
    let confirming = true;
    while (!this.#stopped) {
      const wait = confirming || this.#status !== 'open' ? 0 : this.#waitTime.seconds;
      const started = Date.now();
      try {
        await this.#poll(wait, confirming);
        if (!confirming) failures = 0;
        confirming = false;
      } catch (cause) {
        if (this.#stopped) return;
        const error = toInboxError(cause);
        if (error.code === 'other-receiver') return this.#supersede('other-receiver');
        if (error.code === 'network') this.#doubt();
        confirming = true;
        if (error.cause === replaced) continue;
        const aborted = this.#waitTime.shorten(error, wait, Date.now() - started);
        if (isConnectionLoss(error, aborted)) this.#setConnectionLost(true);
        if (aborted) await this.#sleep(retryDelay(error, 0));
        else await this.#backOff(error, failures++);
      }
    }
  }

  get #stopped() {
    return this.#status === 'closed' || this.#status === 'superseded';
  }

  /**
   * Sends one poll. Each but the first of a start has `resume`: a client that is
   * started meanwhile keeps the mailbox, whichever poll the server gets first.
   * @param {number} wait seconds that the server should wait
   * @param {boolean} confirming whether the poll only confirms the connection
   */
  async #poll(wait, confirming) {
    const started = Date.now();
    const query = {after: this.#lastId, client: this.#client, ...this.#resume && {resume: '1'}, wait: String(wait)};
    const {response, body} = await this.#request(query, this.#requestOptions('GET'), wait * 1000 + TIMEOUT_MARGIN);
    if (this.#stopped) return;
    if (response.headers.get('X-Poll-Ended') === 'superseded') return this.#supersede('replaced');
    const pause = retryAfter(response);
    if (pause > 0) throw new InboxError('stopping', 'the server is shutting down', {status: 204, retryAfter: pause});
    this.#resume = true;
    this.#endDoubt();
    this.#setStatus('open');
    this.#setConnectionLost(false);
    if (response.status === 200) await this.#dispatchMessage(response, body);
    else if (!confirming) await this.#onEmptyPoll(wait, Date.now() - started);
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
   * Dispatches a message. The next poll acknowledges it, so a message that is
   * being handled during a crash is delivered again.
   * @param {Response} response
   * @param {ArrayBuffer} body
   */
  async #dispatchMessage(response, body) {
    const type = response.headers.get('Content-Type') ?? '';
    const id = response.headers.get('X-Message-Id') ?? '';
    this.#lastId = id;
    try {
      const from = decodeURIComponent(response.headers.get('X-From') ?? '');
      const decoded = decode(type, body);
      const data = this.#sealer ? await this.#sealer.open(decoded, from) : decoded;
      if (!this.#stopped) this.dispatchEvent(new CustomEvent('message', {detail: {from, id, type, data}}));
    } catch (cause) {
      this.#emitError(new InboxError('unreadable', 'skipped a message that cannot be decoded', {cause}));
    }
  }

  /**
   * Sends a message, with retries. A POST that a proxy aborted while it waited is
   * repeated; a second time in a row is an error.
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} wait seconds to wait for the recipient
   */
  async #deliver(to, message, wait) {
    const until = Date.now() + wait * 1000;
    for (let failures = 0, attempts = 0, wasAborted = false; ; ) {
      await this.#confirmed;
      if (this.#status === 'closed') throw new InboxError('closed', 'the inbox was closed before the message was sent');
      if (this.#status === 'superseded') throw new InboxError('superseded', 'another client of this mailbox was started');
      const started = Date.now();
      const remaining = Math.max(0, until - started);
      const seconds = Math.min(this.#waitTime.seconds, Math.ceil(remaining / 1000));
      try {
        await this.#post(to, message, seconds, remaining);
        if (this.#status === 'retrying') this.#setStatus('open');
        return;
      } catch (cause) {
        const error = toInboxError(cause);
        if (this.#stopped || error.cause === replaced) continue;
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
   * Sends one POST. While the recipient does not exist, the server waits, then
   * responds with 404. Browsers log a 404 to the console, so a POST that will be
   * retried is aborted shortly before. If the server stores the message at that
   * moment, the retry delivers it twice.
   * @param {string} to
   * @param {{body: BodyInit, type: string}} message
   * @param {number} seconds the time that the server should wait for the recipient
   * @param {number} remaining milliseconds until the send gives up
   */
  async #post(to, message, seconds, remaining) {
    const waited = Math.min(this.#serverWait, this.#waitTime.seconds * 1000);
    const willRetry = remaining > waited && waited >= 2 * ABORT_MARGIN;
    /** @type {Record<string, string>} */
    const query = seconds > 0 ? {to, wait: String(seconds)} : {to};
    const limit = willRetry ? waited - ABORT_MARGIN : seconds * 1000 + TIMEOUT_MARGIN;
    await this.#request(query, this.#requestOptions('POST', message), limit, willRetry);
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
   * Sends a request and reads the whole response. Throws an InboxError.
   * @param {Record<string, string>} query
   * @param {RequestInit} options
   * @param {number} limit timeout in milliseconds
   * @param {boolean} [willRetry] whether a timeout means that the recipient does not exist yet
   */
  async #request(query, options, limit, willRetry = false) {
    const abort = new AbortController();
    const started = Date.now();
    const stop = () => abort.abort();
    const onOffline = () => abort.abort(networkChange);
    const timer = setTimeout(stop, limit);
    // A request that waits does not notice that its connection is dead, so it is aborted and repeated.
    const unsubscribe = onWake(online => {
      if (Date.now() - started >= (online ? MIN_AGE_ONLINE : MIN_AGE_ACTIVE)) abort.abort(replaced);
    });
    const {signal} = this.#stop;
    globalThis.addEventListener?.('offline', onOffline);
    signal.addEventListener('abort', stop);
    try {
      const response = await this.#fetch(this.#urlWith(query), {...options, signal: abort.signal});
      return {response, body: await readResponse(response, options.method, query.after)};
    } catch (cause) {
      if (cause instanceof InboxError) throw cause;
      if (willRetry && abort.signal.aborted) throw new InboxError('recipient-absent', 'the recipient does not exist yet');
      throw new InboxError('network', 'the server cannot be reached', {cause: abort.signal.reason ?? cause});
    } finally {
      clearTimeout(timer);
      unsubscribe();
      globalThis.removeEventListener?.('offline', onOffline);
      signal.removeEventListener('abort', stop);
    }
  }

  /** @param {Record<string, string>} query */
  #urlWith(query) {
    // URLSearchParams would encode a space as +, which some servers do not decode.
    const fields = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    return `${this.#url}?${fields.join('&')}`;
  }

  /**
   * Returns the fetch options of a request. no-store keeps identical GETs of two
   * tabs from waiting for the browser's cache lock. omit keeps a 401 from opening
   * the browser's login dialog. manual keeps the password from the target of a
   * redirect, which is never an inbox server.
   * @param {string} method
   * @param {{body: BodyInit, type: string}} [message]
   * @returns {RequestInit}
   */
  #requestOptions(method, message) {
    /** @type {Record<string, string>} */
    const headers = {Authorization: this.#authorization};
    if (message) headers['Content-Type'] = message.type;
    return {method, headers, body: message?.body, cache: 'no-store', credentials: 'omit', redirect: 'manual'};
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
    return new Promise(resolve => {
      const {signal} = this.#stop;
      if (signal.aborted) return resolve(undefined);
      const started = Date.now();
      const done = () => {
        clearTimeout(timer);
        unsubscribe();
        signal.removeEventListener('abort', done);
        this.removeEventListener('message', onMessage);
        resolve(undefined);
      };
      const onMessage = (/** @type {Event} */ event) => /** @type {CustomEvent} */ (event).detail.from === from && done();
      const timer = setTimeout(done, milliseconds);
      const unsubscribe = onWake(() => Date.now() - started >= minimum && done());
      this.addEventListener('message', onMessage);
      signal.addEventListener('abort', done);
    });
  }

  /** @param {Status} status */
  #setStatus(status) {
    if (this.#status === status || this.#status === 'closed') return;
    this.#status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }

  /** @param {boolean} lost */
  #setConnectionLost(lost) {
    if (this.#connectionLost === lost) return;
    this.#connectionLost = lost;
    this.dispatchEvent(new CustomEvent('connection', {detail: lost ? 'lost' : 'restored'}));
  }

  /** @param {InboxError} error */
  #emitError(error) {
    this.dispatchEvent(new CustomEvent('error', {detail: error}));
    return error;
  }
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
 * Calls a listener when the page becomes active again or the device comes back
 * online: its connections can be dead without notice. Returns a function that
 * removes the listener.
 * @param {(online: boolean) => void} listener
 */
function onWake(listener) {
  const onActive = () => globalThis.document?.visibilityState !== 'hidden' && listener(false);
  const onOnline = () => listener(true);
  /** @type {[EventTarget | undefined, string, () => void][]} */
  const events = [
    [globalThis, 'online', onOnline], [globalThis, 'pageshow', onActive],
    [globalThis.document, 'visibilitychange', onActive], [globalThis.document, 'resume', onActive],
  ];
  for (const [target, type, call] of events) target?.addEventListener?.(type, call);
  return () => {
    for (const [target, type, call] of events) target?.removeEventListener?.(type, call);
  };
}
