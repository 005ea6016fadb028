/**
 * Messages of any size over an RTCDataChannel, with back-pressure. Both sides need this
 * module:
 *
 *     const channel = new DataChannel(connection.createDataChannel('files'));
 *     channel.addEventListener('message', event => console.log(event.data));
 *     await channel.send(file); // resolves when little of it waits in the browser
 *
 * A message is sent in frames of at most 64 KiB, which all browsers accept. The first
 * byte of a frame is the kind of the message; 128 is added if more frames follow. The
 * channel must be ordered and reliable, as it is by default.
 */

import {InboxError} from './codec.js';

/** Maximum number of bytes of a frame. */
const MAX_FRAME_BYTES = 64 * 1024;
/** Maximum number of bytes of a message, by default. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** A send waits while the browser holds more bytes than the former, until it holds no more than the latter. */
const HIGH_WATER_BYTES = 1024 * 1024;
const LOW_WATER_BYTES = 256 * 1024;
/** What a message that waits for a listener counts beside its bytes. */
const MESSAGE_OVERHEAD = 256;
/** Milliseconds that the channel has to send the rest when it is closed. */
const CLOSE_TIME = 10_000;

const BYTES = 0, TEXT = 1, JSON_TEXT = 2, PING = 3, PONG = 4, CANCEL = 5;
const MORE = 128;

/**
 * @typedef {string | ArrayBuffer | ArrayBufferView | Blob | object | number | boolean | null} Sendable
 *   text, bytes, or a value that JSON can represent. Bytes must not change before they are sent
 * @typedef {{open: Event, message: MessageEvent<any>, error: CustomEvent<InboxError>, close: Event}} DataChannelEvents
 */

/**
 * DataChannel sends and receives messages. Events:
 * - open
 * - message: `data` is a string, an ArrayBuffer or the value of JSON. Messages wait for the
 *   first listener
 * - error: an {@link InboxError} with the code `too-large` or `malformed`, for what the remote
 *   peer has sent. The channel then closes
 * - close
 */
export class DataChannel extends /** @type {import('./events.js').TypedTarget<DataChannelEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** Settles when the messages before have been sent. */
  #sending = Promise.resolve();
  #opened;
  /** The message that arrives in several frames. */
  #buffer = new Uint8Array(0);
  #size = 0;
  #kind = BYTES;
  #listening = false;
  /** Messages that wait for a listener. @type {unknown[]} */
  #waiting = [];
  #waitingBytes = 0;
  /** Answers of the remote peer to ping. @type {(() => void)[]} */
  #pongs = [];
  #channel;
  #maxMessageBytes;

  /**
   * @param {RTCDataChannel} channel
   * @param {{maxMessageBytes?: number}} [options] maxMessageBytes bounds each message in both
   *   directions, and those that wait for a listener: 16 MiB by default
   */
  constructor(channel, {maxMessageBytes = MAX_MESSAGE_BYTES} = {}) {
    super();
    this.#channel = channel;
    this.#maxMessageBytes = maxMessageBytes;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    this.#opened = nextEvent(channel, ['open', 'close'], undefined, channel.readyState !== 'connecting');
    channel.addEventListener('open', () => this.dispatchEvent(new Event('open')));
    channel.addEventListener('close', () => this.dispatchEvent(new Event('close')));
    channel.addEventListener('message', ({data}) => this.#onFrame(data));
  }

  get label() {
    return this.#channel.label;
  }

  get readyState() {
    return this.#channel.readyState;
  }

  /** Bytes that the browser has not sent yet. */
  get bufferedAmount() {
    return this.#channel.bufferedAmount;
  }

  /**
   * The first listener for messages gets those that wait.
   * @template {keyof DataChannelEvents} K
   * @overload
   * @param {K} type
   * @param {(event: DataChannelEvents[K]) => void} listener
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
    const [type] = listener;
    super.addEventListener(...listener);
    if (type !== 'message' || this.#listening) return;
    this.#listening = true;
    this.#waitingBytes = 0;
    queueMicrotask(() => {
      for (const data of this.#waiting.splice(0)) this.#dispatch(data);
    });
  }

  /**
   * Sends a message after those before it. Resolves when the browser has taken it and holds
   * at most 1 MiB. Rejects with an InboxError `too-large` or `closed`, or with the reason of
   * the signal; the remote peer then gets nothing of the message.
   * @param {Sendable} data
   * @param {{signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(data, {signal} = {}) {
    const {kind, body, size} = encodeMessage(data);
    if (size > this.#maxMessageBytes) throw new InboxError('too-large', `the message has ${size} bytes, more than ${this.#maxMessageBytes}`);
    const sent = this.#sending.then(() => this.#sendFrames(kind, body, size, signal));
    this.#sending = sent.catch(() => {}); // an error affects only its own message
    return sent;
  }

  /**
   * @param {number} kind
   * @param {Uint8Array | Blob} body
   * @param {number} size
   * @param {AbortSignal} [signal]
   */
  async #sendFrames(kind, body, size, signal) {
    await this.#opened;
    let offset = 0;
    do {
      await this.#drained(signal);
      const end = Math.min(size, offset + MAX_FRAME_BYTES - 1);
      const part = body instanceof Blob ? new Uint8Array(await body.slice(offset, end).arrayBuffer()) : body.subarray(offset, end);
      if (signal?.aborted) {
        if (offset > 0 && this.readyState === 'open') this.#sendFrame(CANCEL);
        throw signal.reason;
      }
      this.#sendFrame(kind + (end < size ? MORE : 0), part);
      offset = end;
    } while (offset < size);
    await this.#drained();
  }

  /**
   * @param {number} header
   * @param {Uint8Array} [part]
   */
  #sendFrame(header, part = new Uint8Array(0)) {
    if (this.readyState !== 'open') throw new InboxError('closed', 'the data channel is closed');
    const frame = new Uint8Array(1 + part.length);
    frame[0] = header;
    frame.set(part, 1);
    this.#channel.send(frame);
  }

  /** Waits until the browser holds little. @param {AbortSignal} [signal] ends the wait */
  async #drained(signal) {
    while (this.bufferedAmount > HIGH_WATER_BYTES && this.readyState === 'open' && !signal?.aborted) {
      await nextEvent(this.#channel, ['bufferedamountlow', 'close'], signal);
    }
  }

  /**
   * Resolves to true when the remote peer answers, which proves that the channel works, and
   * to false after a time.
   * @param {number} limit milliseconds
   * @returns {Promise<boolean>}
   */
  ping(limit) {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, limit, false);
      this.#pongs.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
      if (this.readyState === 'open') this.#sendFrame(PING);
    });
  }

  /**
   * Sends what waits, then closes the channel on both sides. Resolves when it is closed, at the
   * latest after ten seconds.
   * @returns {Promise<void>}
   */
  async close() {
    if (this.readyState === 'closed') return;
    const closed = nextEvent(this.#channel, ['close'], undefined);
    const limit = new Promise(resolve => setTimeout(resolve, CLOSE_TIME));
    await Promise.race([this.#sending, limit]);
    this.#channel.close();
    await Promise.race([closed, limit]);
  }

  /** @param {unknown} frame any value that arrived */
  #onFrame(frame) {
    if (!(frame instanceof ArrayBuffer) || frame.byteLength === 0) return this.#fail('malformed');
    const [header] = new Uint8Array(frame, 0, 1);
    const part = new Uint8Array(frame, 1);
    const kind = header % MORE;
    const more = header >= MORE;
    if (kind === PING) return this.#onPing();
    if (kind === PONG) return this.#pongs.splice(0).forEach(resolve => resolve());
    if (kind === CANCEL) return this.#reset();
    const differs = this.#size > 0 && kind !== this.#kind;
    if (kind > JSON_TEXT || differs || (more && part.length === 0)) return this.#fail('malformed');
    if (this.#size + part.length > this.#maxMessageBytes) return this.#fail('too-large');
    this.#kind = kind;
    if (more || this.#size > 0) this.#append(part);
    if (!more) this.#onMessage(kind, this.#size > 0 ? this.#buffer.subarray(0, this.#size) : part);
  }

  /** Answers, unless the remote peer asks faster than it reads. */
  #onPing() {
    if (this.readyState === 'open' && this.bufferedAmount <= HIGH_WATER_BYTES) this.#sendFrame(PONG);
  }

  /** Adds a part to the message. The buffer doubles, so that small frames cost no more than large ones. */
  #append(/** @type {Uint8Array} */ part) {
    const size = this.#size + part.length;
    if (size > this.#buffer.length) {
      const grown = new Uint8Array(Math.min(this.#maxMessageBytes, Math.max(size, 2 * this.#buffer.length)));
      grown.set(this.#buffer.subarray(0, this.#size));
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#size);
    this.#size = size;
  }

  #reset() {
    this.#buffer = new Uint8Array(0);
    this.#size = 0;
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} body
   */
  #onMessage(kind, body) {
    let data;
    try {
      data = decodeMessage(kind, body);
    } catch {
      return this.#fail('malformed');
    }
    this.#reset();
    if (this.#listening && this.#waiting.length === 0) return this.#dispatch(data);
    this.#waitingBytes += body.length + MESSAGE_OVERHEAD;
    if (this.#waitingBytes > this.#maxMessageBytes + MESSAGE_OVERHEAD) return this.#fail('too-large');
    this.#waiting.push(data);
  }

  /** @param {unknown} data */
  #dispatch(data) {
    this.dispatchEvent(new MessageEvent('message', {data}));
  }

  /** @param {'malformed'|'too-large'} code */
  #fail(code) {
    this.#reset();
    this.#waiting = [];
    this.#channel.close();
    const text = code === 'malformed' ? 'the remote peer has sent something else than messages' : `the remote peer has sent more than ${this.#maxMessageBytes} bytes`;
    this.dispatchEvent(new CustomEvent('error', {detail: new InboxError(code, text)}));
  }
}

/**
 * @param {Sendable} data
 * @returns {{kind: number, body: Uint8Array | Blob, size: number}}
 */
function encodeMessage(data) {
  if (data instanceof Blob) return {kind: BYTES, body: data, size: data.size};
  if (data instanceof ArrayBuffer) return bytesOf(BYTES, new Uint8Array(data));
  if (ArrayBuffer.isView(data)) return bytesOf(BYTES, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  if (typeof data === 'string') return bytesOf(TEXT, new TextEncoder().encode(data));
  const text = JSON.stringify(data);
  if (text === undefined) throw new TypeError('JSON cannot represent the message');
  return bytesOf(JSON_TEXT, new TextEncoder().encode(text));
}

/**
 * @param {number} kind
 * @param {Uint8Array} body
 */
function bytesOf(kind, body) {
  return {kind, body, size: body.length};
}

/**
 * @param {number} kind
 * @param {Uint8Array} body
 */
function decodeMessage(kind, body) {
  if (kind === BYTES) return body.slice().buffer;
  const text = new TextDecoder().decode(body);
  return kind === TEXT ? text : JSON.parse(text);
}

/**
 * Resolves at the next of some events, or when a signal is aborted.
 * @param {EventTarget} target
 * @param {string[]} types
 * @param {AbortSignal} [signal]
 * @param {boolean} [done] resolves at once
 * @returns {Promise<void>}
 */
function nextEvent(target, types, signal, done = false) {
  return new Promise(resolve => {
    if (done || signal?.aborted) return resolve();
    const end = () => {
      for (const type of types) target.removeEventListener(type, end);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    for (const type of types) target.addEventListener(type, end);
    signal?.addEventListener('abort', end);
  });
}
