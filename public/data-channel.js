/**
 * Messages of any size over an RTCDataChannel, with back-pressure. Both sides need this
 * module:
 *
 *     const channel = new DataChannel(connection.createDataChannel('files'));
 *     channel.addEventListener('message', event => console.log(event.data));
 *     await channel.send(file); // resolves when little of it waits
 *
 * A message is sent in frames of at most 64 KiB, which all browsers accept. The first
 * byte of a frame is its kind; 128 is added if more frames of the message follow. The
 * receiver acknowledges messages, so that those that were lost with a connection can be sent
 * over another one: connect.js does so. The channel must be ordered and reliable, as it is by
 * default.
 */

import {InboxError, bytesOf} from './codec.js';
import {after, emit, on, onAbort, until} from './events.js';

/** Maximum number of bytes of a frame. */
const MAX_FRAME_BYTES = 64 * 1024;
/** Maximum number of bytes of a message, by default. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Number of bytes that can be on their way, in the browser or without an acknowledgement, before a send waits. */
const WINDOW_BYTES = 1024 * 1024;
/** What a message counts beside its bytes. */
const MESSAGE_OVERHEAD = 64;
/** An acknowledgement is sent after this many bytes, or milliseconds. */
const ACK_BYTES = 128 * 1024;
const ACK_DELAY = 50;
/** Milliseconds that the channel has to send the rest when it is closed. */
const CLOSE_TIME = 10_000;

/** The kinds of frames. Those from ACK on have a number of messages. */
const BYTES = 0, TEXT = 1, JSON_TEXT = 2, PING = 3, PONG = 4, CANCEL = 5, CLOSE = 6, ACK = 7, RESUME = 8;
const MORE = 128;

/**
 * @typedef {string | ArrayBuffer | ArrayBufferView | Blob | object | number | boolean | null} Sendable
 *   text, bytes, or a value that JSON can represent
 * @typedef {{open: Event, message: MessageEvent<any>, error: CustomEvent<InboxError>, close: Event}} DataChannelEvents
 *
 * @typedef {object} Outgoing a message that is not acknowledged
 * @property {number} kind
 * @property {Uint8Array | Blob} body
 * @property {number} size
 * @property {AbortSignal | undefined} signal
 * @property {() => void} resolve
 * @property {(reason: unknown) => void} reject
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
  /** By default that of the RTCDataChannel. */
  label;
  /** undefined at first, null while there is none. @type {RTCDataChannel | null | undefined} */
  #channel;
  /** @type {'connecting'|'open'|'closed'} */
  #state = 'connecting';
  /** Settles when the channel is closed, after a call of close. @type {Promise<void> | null} */
  #closing = null;
  /** Whether all is sent, so that the end of the connection is that of the channel. */
  #closed = false;
  /** Whether no connection was lost. */
  #isFirst = true;
  /** Whether it is known what the remote peer has received. */
  #resumed = true;
  /** @type {Outgoing[]} */
  #outgoing = [];
  /** How many of them were sent, and their bytes. */
  #sent = 0;
  #sentBytes = 0;
  /** The channel whose loop sends. That of a channel that was lost can wait for ever. @type {RTCDataChannel | null} */
  #pumping = null;
  /** How many messages the remote peer has acknowledged. */
  #acknowledged = 0;
  /** How many messages have arrived, and bytes since the last acknowledgement. */
  #received = 0;
  #unacknowledged = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ackTimer;
  /** The message that arrives in several frames. */
  #buffer = new Uint8Array(0);
  #size = 0;
  #kind = BYTES;
  #listening = false;
  /** Messages that wait for a listener. @type {unknown[]} */
  #waiting = [];
  #waitingBytes = 0;
  #maxMessageBytes;
  #onLost;

  /**
   * @param {RTCDataChannel | undefined} channel without one, messages wait until one is attached
   * @param {object} [options]
   * @param {number | undefined} [options.maxMessageBytes] bounds each message in both directions, and those that
   *   wait for a listener: 16 MiB by default
   * @param {(() => void) | undefined} [options.onLost] called when the connection was lost; the channel waits for
   *   another one
   * @param {string | undefined} [options.label] by default that of the channel
   */
  constructor(channel, {maxMessageBytes = MAX_MESSAGE_BYTES, onLost, label = channel?.label ?? ''} = {}) {
    super();
    this.label = label;
    this.#maxMessageBytes = maxMessageBytes;
    this.#onLost = onLost;
    if (channel) this.attach(channel);
  }

  /** @returns {RTCDataChannelState} */
  get readyState() {
    return this.#closing && this.#state !== 'closed' ? 'closing' : this.#state;
  }

  /** Bytes of messages that the remote peer has not acknowledged. */
  get bufferedAmount() {
    return this.#outgoing.reduce((sum, {size}) => sum + size, 0);
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
   * Sends a message after those before it. Resolves when it was sent and at most 1 MiB is on its
   * way. Rejects with an InboxError `too-large` or `closed`, or with the reason of the signal:
   * a message that was not sent whole by then does not arrive.
   * @param {Sendable} data
   * @param {{signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(data, {signal} = {}) {
    const {kind, body} = encodeMessage(data);
    const size = body instanceof Blob ? body.size : body.length;
    if (size > this.#maxMessageBytes) throw this.#error('too-large');
    if (this.#closing || this.#state === 'closed') throw this.#error('closed');
    signal?.throwIfAborted();
    return until((resolve, reject, scope) => {
      const message = {kind, body, size, signal, resolve, reject};
      this.#outgoing.push(message);
      onAbort(signal, () => this.#cancel(message), scope);
      void this.#pump();
    });
  }

  /**
   * Removes a message that was not sent. The one that is being sent is removed by its loop.
   * @param {Outgoing} message
   */
  #cancel(message) {
    const index = this.#outgoing.indexOf(message);
    message.reject(message.signal?.reason);
    if (index > this.#sent || (index === this.#sent && !this.#pumping)) this.#outgoing.splice(index, 1);
  }

  /**
   * Continues over a channel, which replaces one that was lost.
   * @param {RTCDataChannel} channel
   * @internal
   */
  attach(channel) {
    if (this.#state === 'closed') return;
    this.#isFirst = this.#resumed = this.#channel === undefined;
    this.#state = 'connecting';
    this.#channel = channel;
    channel.binaryType = 'arraybuffer';
    channel.bufferedAmountLowThreshold = WINDOW_BYTES / 4;
    on(channel, 'open', () => this.#onOpen(channel));
    on(channel, 'close', () => this.#onClose(channel));
    on(channel, 'message', ({data}) => channel === this.#channel && this.#onFrame(data));
    if (channel.readyState === 'open') this.#onOpen(channel);
  }

  /** @param {RTCDataChannel} channel */
  #onOpen(channel) {
    if (channel !== this.#channel || this.#state !== 'connecting') return;
    this.#state = 'open';
    this.#reset();
    if (!this.#resumed) this.#sendFrame(RESUME, number(this.#received));
    this.dispatchEvent(new Event('open'));
    void this.#pump();
  }

  /** @param {RTCDataChannel} channel */
  #onClose(channel) {
    if (channel !== this.#channel) return;
    if (!this.#onLost || this.#closed) return this.#end();
    this.detach();
    this.#onLost();
  }

  /**
   * Gives a channel up that does not work.
   * @internal
   */
  detach() {
    if (this.#state === 'closed' || !this.#channel) return;
    this.#channel = this.#pumping = null;
    this.#state = 'connecting';
  }

  /** Sends the messages, one after the other, while the channel is open and little is on its way. */
  async #pump() {
    const channel = this.#channel;
    if (!channel || this.#pumping === channel) return;
    this.#pumping = channel;
    while (this.#canSend(channel) && this.#sent < this.#outgoing.length && this.#sentBytes <= WINDOW_BYTES) {
      await this.#sendMessage(channel, this.#outgoing[this.#sent]);
    }
    if (this.#pumping === channel) this.#pumping = null;
  }

  /** @param {RTCDataChannel} channel */
  #canSend(channel) {
    return channel === this.#channel && channel.readyState === 'open' && this.#resumed && this.#state !== 'closed';
  }

  /**
   * @param {RTCDataChannel} channel
   * @param {Outgoing} message
   */
  async #sendMessage(channel, {kind, body, size, signal, reject}) {
    let offset = 0;
    do {
      const end = Math.min(size, offset + MAX_FRAME_BYTES - 1);
      const part = await partOf(body, offset, end).catch(reject); // a file that was removed
      while (channel.bufferedAmount > WINDOW_BYTES && this.#canSend(channel) && !signal?.aborted) {
        await until((resolve, _reject, scope) => {
          on(channel, 'bufferedamountlow', resolve, scope);
          on(channel, 'close', resolve, scope);
          onAbort(signal, resolve, scope);
        });
      }
      if (!this.#canSend(channel)) return; // it is sent again
      if (signal?.aborted || !part) {
        if (offset > 0) this.#sendFrame(CANCEL);
        this.#outgoing.splice(this.#sent, 1);
        return;
      }
      if (!this.#sendFrame(kind + (end < size ? MORE : 0), part)) return;
      offset = end;
    } while (offset < size);
    this.#sent++;
    this.#sentBytes += size + MESSAGE_OVERHEAD;
    this.#settle();
  }

  /** Resolves the sends of what was sent, if little is on its way. */
  #settle() {
    if (this.#sentBytes > WINDOW_BYTES) return;
    for (const {resolve} of this.#outgoing.slice(0, this.#sent)) resolve();
  }

  /**
   * Notes that the remote peer has a number of messages.
   * @param {number} count
   */
  #onAck(count) {
    const acknowledged = this.#outgoing.splice(0, count - this.#acknowledged);
    this.#acknowledged = count;
    this.#sent -= acknowledged.length;
    for (const {size, resolve} of acknowledged) {
      this.#sentBytes -= size + MESSAGE_OVERHEAD;
      resolve();
    }
    this.#settle();
    emit(this, 'ack', count);
    void this.#pump();
  }

  /**
   * Sends a frame. Returns false if the channel is not open, or does not take it.
   * @param {number} header
   * @param {Uint8Array} [part]
   */
  #sendFrame(header, part = new Uint8Array(0)) {
    const frame = new Uint8Array(1 + part.length);
    frame[0] = header;
    frame.set(part, 1);
    const channel = this.#channel;
    if (channel?.readyState !== 'open') return false;
    try {
      channel.send(frame);
      return true;
    } catch { // the remote peer accepts only smaller ones
      channel.close();
      this.#onClose(channel);
      return false;
    }
  }

  /**
   * Resolves to true when the remote peer answers, which proves that the channel works, and
   * to false after a time, or when the channel is closed.
   * @param {number} limit milliseconds
   * @returns {Promise<boolean>}
   */
  ping(limit) {
    return until((/** @type {(works: boolean) => void} */ resolve, _reject, scope) => {
      after(this.#state === 'closed' ? 0 : limit, () => resolve(false), scope);
      on(this, 'pong', () => resolve(true), scope);
      on(this, 'close', () => resolve(false), scope);
      this.#sendFrame(PING);
    });
  }

  /**
   * Sends what waits, then closes the channel on both sides. Resolves when it is closed, at the
   * latest after ten seconds.
   * @returns {Promise<void>}
   */
  close() {
    return this.#closing ??= this.#close();
  }

  async #close() {
    await until((resolve, _reject, scope) => {
      const close = () => {
        if (this.#outgoing.length > 0) return;
        this.#closed = true;
        this.#sendFrame(CLOSE);
        if (this.#channel?.readyState === 'open') this.#channel.close();
        else resolve();
      };
      after(CLOSE_TIME, resolve, scope);
      on(this, 'close', resolve, scope);
      on(this, 'ack', close, scope);
      close();
    });
    this.abort();
  }

  /** Ends the channel at once, on both sides if there is a connection. @internal */
  abort() {
    this.#sendFrame(CLOSE);
    this.#channel?.close();
    this.#end();
  }

  #end() {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#channel = null;
    clearTimeout(this.#ackTimer);
    for (const {reject} of this.#outgoing.splice(0)) reject(this.#error('closed'));
    this.dispatchEvent(new Event('close'));
  }

  /** @param {unknown} frame any value that arrived */
  #onFrame(frame) {
    if (!(frame instanceof ArrayBuffer) || frame.byteLength === 0) return this.#fail('malformed');
    const [header] = new Uint8Array(frame, 0, 1);
    const part = new Uint8Array(frame, 1);
    if (header >= ACK && header < MORE) return this.#onNumber(header, part);
    switch (header) {
      case PING: return this.#onPing();
      case PONG: return emit(this, 'pong', null);
      case CANCEL: return this.#reset();
      case CLOSE: return this.abort();
      default: return this.#onPart(header % MORE, header >= MORE, part);
    }
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} part
   */
  #onNumber(kind, part) {
    const count = part.length === 8 ? new DataView(part.buffer, part.byteOffset).getFloat64(0) : -1;
    if (kind === RESUME && this.#isFirst && count === 0 && this.#received === 0) return this.#onUnknown();
    const isValid = Number.isInteger(count) && count >= this.#acknowledged && count <= this.#acknowledged + this.#sent;
    if (kind > RESUME || !isValid || (kind === RESUME) === this.#resumed) return this.#fail('malformed');
    this.#onAck(count);
    if (this.#resumed) return;
    this.#sent = this.#sentBytes = 0; // the others are sent again
    this.#resumed = true;
    void this.#pump();
  }

  /** Answers a remote peer that has created the channel over a connection that was lost before this side knew of it. */
  #onUnknown() {
    this.#isFirst = false;
    this.#sendFrame(RESUME, number(0));
  }

  /**
   * @param {number} kind
   * @param {boolean} more
   * @param {Uint8Array} part
   */
  #onPart(kind, more, part) {
    const differs = this.#size > 0 && kind !== this.#kind;
    if (kind > JSON_TEXT || differs || (more && part.length === 0)) return this.#fail('malformed');
    if (this.#size + part.length > this.#maxMessageBytes) return this.#fail('too-large');
    this.#kind = kind;
    if (more || this.#size > 0) this.#append(part);
    if (!more) this.#onMessage(kind, this.#size > 0 ? this.#buffer.subarray(0, this.#size) : part);
  }

  /** Answers, unless the remote peer asks faster than it reads. */
  #onPing() {
    if (this.#channel && this.#channel.bufferedAmount <= 2 * WINDOW_BYTES) this.#sendFrame(PONG);
  }

  /**
   * Adds a part to the message. The buffer doubles, so that small frames cost no more than large ones.
   * @param {Uint8Array} part
   */
  #append(part) {
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
    const bytes = body.length + MESSAGE_OVERHEAD;
    this.#reset();
    this.#acknowledge(bytes);
    if (this.#listening && this.#waiting.length === 0) return this.#dispatch(data);
    this.#waitingBytes += bytes;
    if (this.#waitingBytes > this.#maxMessageBytes + MESSAGE_OVERHEAD) return this.#fail('too-large');
    this.#waiting.push(data);
  }

  /**
   * Counts a message. One acknowledgement covers all before it.
   * @param {number} bytes
   */
  #acknowledge(bytes) {
    this.#received++;
    this.#unacknowledged += bytes;
    const send = () => {
      clearTimeout(this.#ackTimer);
      this.#ackTimer = undefined;
      this.#unacknowledged = 0;
      if (this.#state !== 'connecting') this.#sendFrame(ACK, number(this.#received));
    };
    if (this.#unacknowledged >= ACK_BYTES) send();
    else this.#ackTimer ??= setTimeout(send, ACK_DELAY);
  }

  /** @param {unknown} data */
  #dispatch(data) {
    this.dispatchEvent(new MessageEvent('message', {data}));
  }

  /** @param {'malformed'|'too-large'} code */
  #fail(code) {
    if (this.#state === 'closed') return;
    this.#reset();
    this.#waiting = [];
    emit(this, 'error', this.#error(code));
    this.abort();
  }

  /** @param {'malformed'|'too-large'|'closed'} code */
  #error(code) {
    return new InboxError(code, code === 'closed' ? 'the data channel is closed' : `a message is ${code}, the limit is ${this.#maxMessageBytes} bytes`);
  }
}

/**
 * Encodes a message. Bytes are copied: they can be sent again.
 * @param {Sendable} data
 * @returns {{kind: number, body: Uint8Array | Blob}}
 */
function encodeMessage(data) {
  if (data instanceof Blob) return {kind: BYTES, body: data};
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return {kind: BYTES, body: bytesOf(data).slice()};
  const isText = typeof data === 'string';
  const text = isText ? data : JSON.stringify(data);
  if (text === undefined) throw new TypeError('JSON cannot represent the message');
  return {kind: isText ? TEXT : JSON_TEXT, body: new TextEncoder().encode(text)};
}

/**
 * @param {number} kind
 * @param {Uint8Array} body
 */
function decodeMessage(kind, body) {
  if (kind === BYTES) return body.slice().buffer;
  const text = new TextDecoder('utf-8', {ignoreBOM: true}).decode(body);
  return kind === TEXT ? text : JSON.parse(text);
}

/**
 * @param {Uint8Array | Blob} body
 * @param {number} start
 * @param {number} end
 */
async function partOf(body, start, end) {
  return body instanceof Blob ? new Uint8Array(await body.slice(start, end).arrayBuffer()) : body.subarray(start, end);
}

/** Encodes a number of messages. @param {number} count */
function number(count) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, count);
  return bytes;
}
