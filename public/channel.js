/**
 * Messages of at most 65,535 bytes over an RTCDataChannel, with back-pressure. data-channel.js
 * has messages of any size; the remote peer can use either.
 *
 * A message is sent as a frame, whose first byte is its kind. The receiver acknowledges it, which
 * data-channel.js needs. The channel must be ordered and reliable, as it is by default.
 */

import {InboxError, decode, encode} from './codec.js';
import {after, emit, on, onAbort, serial, unlessAborted, until} from './events.js';

/** Maximum number of bytes of a message in one frame, which has one byte more. All browsers accept it. */
export const MAX_PART_BYTES = 65_535;
/** Maximum number of bytes of a message with data-channel.js, by default. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Number of bytes that can be on their way before a send waits. */
export const WINDOW_BYTES = 1_048_576;
/** Maximum number of messages that wait for a listener. */
const MAX_WAITING = 256;
/** Milliseconds that the channel has to send the rest when it is closed. */
const CLOSE_TIME = 10_000;

/** The media types of messages, by the kinds of their frames: 0, 1 and 2. */
const types = ['application/octet-stream', 'text/plain', 'application/json'];
/** The other kinds of frames. Those from ACK on have a number of messages. */
export const PING = 3, PONG = 4, CANCEL = 5, CLOSE = 6, ACK = 7, RESUME = 8;
/** Is added to the kind of a part of a message that more parts follow. */
export const MORE = 128;

/**
 * @typedef {string | ArrayBuffer | ArrayBufferView | Blob | object | number | boolean | null} Sendable
 *   text, bytes, or a value that JSON can represent; a Blob with data-channel.js only
 * @typedef {{open: Event, message: MessageEvent<any>, error: CustomEvent<InboxError>, close: Event}} ChannelEvents
 */

/**
 * Channel sends and receives messages. Events:
 * - open
 * - message: `data` is a string, an ArrayBuffer or the value of JSON. Messages wait for the
 *   first listener
 * - error: an {@link InboxError} with the code `too-large` or `malformed`, for what the remote
 *   peer has sent. The channel then closes
 * - close
 */
export class Channel extends /** @type {import('./events.js').TypedTarget<ChannelEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** undefined at first, null while there is none. @type {RTCDataChannel | null | undefined} @internal */
  channel;
  /** @type {'connecting'|'open'|'closed'} @internal */
  state = 'connecting';
  /** Settles when the channel is closed, after a call of close. @type {Promise<void> | null} @internal */
  closing = null;
  /** How many messages have arrived. @internal */
  received = 0;
  /** Whether there is a listener for messages. @internal */
  isHeard = false;
  /** Sends the messages in order. */
  #sends = serial();
  #unsentBytes = 0;
  /** Messages that wait for a listener. @type {unknown[]} */
  #waiting = [];

  /** @param {RTCDataChannel} [channel] */
  constructor(channel) {
    super();
    if (channel) this.listen(channel);
  }

  /** @returns {RTCDataChannelState} */
  get readyState() {
    return this.closing && this.state !== 'closed' ? 'closing' : this.state;
  }

  /** Bytes of messages that are not sent. */
  get bufferedAmount() {
    return this.#unsentBytes + Number(this.channel?.bufferedAmount);
  }

  /**
   * The first listener for messages gets those that wait.
   * @template {keyof ChannelEvents} K
   * @overload
   * @param {K} type
   * @param {(event: ChannelEvents[K]) => void} listener
   * @param {AddEventListenerOptions | boolean} [options]
   * @returns {void}
   */
  /**
   * @overload
   * @param {string} type
   * @param {EventListenerOrEventListenerObject | null} listener
   * @param {AddEventListenerOptions | boolean} [options]
   * @returns {void}
   */
  /** @param {Parameters<EventTarget['addEventListener']>} listener */
  addEventListener(...listener) {
    super.addEventListener(...listener);
    if (listener[0] !== 'message') return;
    queueMicrotask(() => {
      this.isHeard = true;
      this.#flush();
    });
  }

  #flush() {
    for (const data of this.#waiting.splice(0)) this.dispatchEvent(new MessageEvent('message', {data}));
  }

  /**
   * Sends a message after those before it. Resolves when it was sent and at most 1 MiB is on its
   * way. Rejects with an InboxError `too-large` or `closed`, or with the reason of the signal:
   * a message that was not sent by then does not arrive.
   * @param {Sendable} data
   * @param {{signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(data, {signal} = {}) {
    const {kind, body} = this.encode(data);
    if (!(body.length <= MAX_PART_BYTES)) throw new InboxError('too-large');
    this.#unsentBytes += body.length;
    const sent = this.#sends(async () => {
      await this.#room(signal);
      this.sendFrame(kind, body);
    }).finally(() => { this.#unsentBytes -= body.length; });
    return unlessAborted(sent, signal);
  }

  /**
   * Encodes a message. Bytes are copied: they can change while they wait. Throws an InboxError
   * if the channel is closed.
   * @param {Sendable} data
   * @returns {{kind: number, body: any}} body has bytes, or is a Blob
   * @internal
   */
  encode(data) {
    if (this.closing || this.state === 'closed') throw new InboxError('closed');
    const {body, type} = /** @type {{body: any, type: string}} */ (encode(data));
    return {kind: types.indexOf(type), body: typeof body === 'string' ? new TextEncoder().encode(body) : body.slice()};
  }

  /** Waits until the channel is open and little is on its way. @param {AbortSignal} [signal] */
  async #room(signal) {
    for (;;) {
      signal?.throwIfAborted();
      if (this.state === 'closed') throw new InboxError('closed');
      const {readyState, bufferedAmount} = /** @type {RTCDataChannel} */ (this.channel);
      if (readyState === 'open' && bufferedAmount <= WINDOW_BYTES) return;
      await until((resolve, _reject, scope) => {
        on(this, 'open', resolve, scope);
        on(this, 'close', resolve, scope);
        on(this.channel, 'bufferedamountlow', resolve, scope);
        onAbort(signal, resolve, scope);
      });
    }
  }

  /** @param {RTCDataChannel} channel @internal */
  listen(channel) {
    this.channel = channel;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = WINDOW_BYTES / 4;
    on(channel, 'open', () => this.onOpen(channel));
    on(channel, 'close', () => this.onClose(channel));
    on(channel, 'message', ({data}) => channel === this.channel && this.#onFrame(data));
    if (channel.readyState === 'open') this.onOpen(channel);
  }

  /** @param {RTCDataChannel} _channel @internal */
  onOpen(_channel) {
    if (this.state !== 'connecting') return;
    this.state = 'open';
    this.dispatchEvent(new Event('open'));
  }

  /** @param {RTCDataChannel} _channel @internal */
  onClose(_channel) {
    this.end();
  }

  /**
   * Sends a frame, if the channel is open. A remote peer that asks faster than it reads gets no answer.
   * @param {number} header
   * @param {ArrayLike<number>} [part]
   * @internal
   */
  sendFrame(header, part = []) {
    const {channel} = this;
    const frame = new Uint8Array(1 + part.length);
    frame[0] = header;
    frame.set(part, 1);
    if (channel?.readyState === 'open' && channel.bufferedAmount <= 2 * WINDOW_BYTES) channel.send(frame);
  }

  /**
   * Sends what waits, then closes the channel on both sides. Resolves when it is closed, at the
   * latest after ten seconds.
   * @returns {Promise<void>}
   */
  close() {
    return this.closing ??= until((resolve, _reject, scope) => {
      after(CLOSE_TIME, resolve, scope);
      on(this, 'close', resolve, scope);
      void this.flushed(scope).then(() => {
        this.sendFrame(CLOSE);
        if (this.channel?.readyState === 'open') this.channel.close();
        else resolve();
      });
    }).then(() => this.abort());
  }

  /** Resolves when all is sent. @param {AbortSignal} _scope is aborted when the channel is closed @internal */
  async flushed(_scope) {
    await this.#sends(() => {});
  }

  /** Ends the channel at once, on both sides if there is a connection. @internal */
  abort() {
    this.sendFrame(CLOSE);
    this.channel?.close();
    this.end();
  }

  /** @internal */
  end() {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.dispatchEvent(new Event('close'));
  }

  /** @param {unknown} frame any value that arrived */
  #onFrame(frame) {
    if (this.state === 'closed') return;
    if (!(frame instanceof ArrayBuffer) || frame.byteLength === 0) return this.fail('malformed');
    this.onFrame(new Uint8Array(frame)[0], new Uint8Array(frame, 1));
  }

  /**
   * @param {number} header
   * @param {Uint8Array} part
   * @internal
   */
  onFrame(header, part) {
    if (header < types.length) this.onMessage(header, part);
    if (header === CLOSE) this.abort();
    if (header === PING) this.sendFrame(PONG);
    if (header >= MORE) this.fail('too-large');
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} body
   * @internal
   */
  onMessage(kind, body) {
    try {
      this.#waiting.push(decode(types[kind], /** @type {ArrayBuffer} */ (body.slice().buffer)));
    } catch {
      return this.fail('malformed');
    }
    this.received++;
    this.acknowledge(body.length);
    if (this.isHeard) this.#flush();
    else if (this.#waiting.length > MAX_WAITING) this.fail('too-large');
  }

  /** @param {number} _bytes of the message @internal */
  acknowledge(_bytes) {
    this.sendNumber(ACK);
  }

  /** Sends how many messages have arrived. @param {number} kind @internal */
  sendNumber(kind) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, this.received);
    this.sendFrame(kind, bytes);
  }

  /** @param {'malformed'|'too-large'} code @internal */
  fail(code) {
    this.#waiting = [];
    emit(this, 'error', new InboxError(code));
    this.abort();
  }
}
