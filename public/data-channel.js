/**
 * Messages of any size over an RTCDataChannel, with back-pressure:
 *
 *     const channel = new DataChannel(connection.createDataChannel('files'));
 *     channel.addEventListener('message', event => console.log(event.data));
 *     await channel.send(file); // resolves when little of it waits
 *
 * A message is sent in frames of at most 64 KiB, which all browsers accept. The first
 * byte of a frame is its kind; 128 is added if more frames of the message follow. The
 * receiver acknowledges messages, so that those that were lost with a connection can be sent
 * over another one: channel-call.js does so. The channel must be ordered and reliable, as it is
 * by default. A remote peer that has channel.js only exchanges messages of one frame.
 */

import {ACK, CANCEL, Channel, MAX_MESSAGE_BYTES, MAX_PART_BYTES, MORE, PING, PONG, RESUME, WINDOW_BYTES} from './channel.js';
import {InboxError} from './codec.js';
import {after, emit, on, onAbort, until} from './events.js';

/** What a message counts beside its bytes. */
const MESSAGE_OVERHEAD = 64;
/** An acknowledgement is sent after this many bytes, or milliseconds. */
const ACK_BYTES = 128 * 1024;
const ACK_DELAY = 50;
/** The largest kind of a part of a message: JSON. */
const MAX_KIND = 2;

/**
 * @typedef {import('./channel.js').Sendable} Sendable
 * @typedef {import('./channel.js').ChannelEvents} ChannelEvents
 *
 * @typedef {object} DataChannelOptions
 * @property {number | undefined} [maxMessageBytes] bounds each message in both directions, and those that
 *   wait for a listener: 16 MiB by default
 * @property {(() => void) | undefined} [onLost] called when the connection was lost; the channel waits for
 *   another one
 * @property {string | undefined} [label] by default that of the channel
 * @property {Memory | undefined} [memory] bounds what several channels hold together
 *
 * @typedef {{used: number, limit: number}} Memory bytes of parts of messages, and of messages without a listener
 *
 * @typedef {object} Outgoing a message that is not acknowledged
 * @property {number} kind
 * @property {Uint8Array | Blob} body
 * @property {number} size
 * @property {AbortSignal | undefined} signal
 * @property {() => void} resolve
 * @property {(reason: unknown) => void} reject
 */

export class DataChannel extends Channel {
  /** By default that of the RTCDataChannel. */
  label;
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
  /** How many bytes have arrived since the last acknowledgement. */
  #unacknowledged = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ackTimer;
  /** The message that arrives in several frames. */
  #buffer = new Uint8Array(0);
  #size = 0;
  #kind = 0;
  /** Bytes of messages that have arrived before there was a listener. */
  #waitingBytes = 0;
  /** Bytes that count in the memory. */
  #held = 0;
  #maxMessageBytes;
  #onLost;
  #memory;

  /**
   * @param {RTCDataChannel | undefined} channel without one, messages wait until one is attached
   * @param {DataChannelOptions} [options]
   */
  constructor(channel, {maxMessageBytes = MAX_MESSAGE_BYTES, onLost, label = channel?.label ?? '', memory = {used: 0, limit: Infinity}} = {}) {
    super();
    this.label = label;
    this.#maxMessageBytes = maxMessageBytes;
    this.#onLost = onLost;
    this.#memory = memory;
    if (channel) this.attach(channel);
  }

  /** Bytes of messages that the remote peer has not acknowledged. @override */
  get bufferedAmount() {
    return this.#outgoing.reduce((sum, {size}) => sum + size, 0);
  }

  /**
   * @override
   * @param {Sendable} data
   * @param {{signal?: AbortSignal | undefined}} [options]
   * @returns {Promise<void>}
   */
  async send(data, {signal} = {}) {
    const {kind, body} = this.encode(data);
    const size = body.size ?? body.length;
    if (size > this.#maxMessageBytes) throw this.#tooLarge();
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
    if (this.readyState === 'closed') return;
    this.#isFirst = this.#resumed = this.channel === undefined;
    this.state = 'connecting';
    this.listen(channel);
  }

  /** @override @param {RTCDataChannel} channel @internal */
  onOpen(channel) {
    if (channel !== this.channel || this.state !== 'connecting') return;
    this.state = 'open';
    this.#reset();
    if (!this.#resumed) this.sendNumber(RESUME);
    this.dispatchEvent(new Event('open'));
    void this.#pump();
  }

  /** @override @param {RTCDataChannel} channel @internal */
  onClose(channel) {
    if (channel !== this.channel) return;
    if (!this.#onLost || this.#closed) return this.end();
    this.detach();
    this.#onLost();
  }

  /**
   * Gives a channel up that does not work.
   * @internal
   */
  detach() {
    if (this.state === 'closed' || !this.channel) return;
    this.channel = this.#pumping = null;
    this.state = 'connecting';
  }

  /** Sends the messages, one after the other, while the channel is open and little is on its way. */
  async #pump() {
    const {channel} = this;
    if (!channel || this.#pumping === channel) return;
    this.#pumping = channel;
    while (this.#canSend(channel) && this.#sent < this.#outgoing.length && this.#sentBytes <= WINDOW_BYTES) {
      await this.#sendMessage(channel, this.#outgoing[this.#sent]);
    }
    if (this.#pumping === channel) this.#pumping = null;
  }

  /** @param {RTCDataChannel} channel */
  #canSend(channel) {
    return channel === this.channel && channel.readyState === 'open' && this.#resumed && this.state !== 'closed';
  }

  /**
   * @param {RTCDataChannel} channel
   * @param {Outgoing} message
   */
  async #sendMessage(channel, {kind, body, size, signal, reject}) {
    let offset = 0;
    do {
      const end = Math.min(size, offset + MAX_PART_BYTES);
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
        if (offset > 0) this.sendFrame(CANCEL);
        this.#outgoing.splice(this.#sent, 1);
        return;
      }
      if (!this.sendFrame(kind + (end < size ? MORE : 0), part)) return;
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
   * Resolves to true when the remote peer answers, which proves that the channel works, and
   * to false after a time, or when the channel is closed.
   * @param {number} limit milliseconds
   * @returns {Promise<boolean>}
   */
  ping(limit) {
    return until((/** @type {(works: boolean) => void} */ resolve, _reject, scope) => {
      after(this.state === 'closed' ? 0 : limit, () => resolve(false), scope);
      on(this, 'pong', () => resolve(true), scope);
      on(this, 'close', () => resolve(false), scope);
      this.sendFrame(PING);
    });
  }

  /** Resolves when all is acknowledged. @override @param {AbortSignal} scope @internal */
  async flushed(scope) {
    await new Promise(resolve => {
      const check = () => this.#outgoing.length === 0 && resolve(undefined);
      on(this, 'ack', check, scope);
      check();
    });
    this.#closed = true;
  }

  /** @override @internal */
  end() {
    if (this.state === 'closed') return;
    clearTimeout(this.#ackTimer);
    this.#hold(-this.#held);
    super.end();
    this.channel = null;
    for (const {reject} of this.#outgoing.splice(0)) reject(new InboxError('closed'));
  }

  /**
   * Sends a frame. Returns false if the channel is not open, or does not take it.
   * @override
   * @param {number} header
   * @param {ArrayLike<number>} [part]
   * @internal
   */
  sendFrame(header, part) {
    const {channel} = this;
    if (channel?.readyState !== 'open') return false;
    try {
      super.sendFrame(header, part);
      return true;
    } catch { // the remote peer accepts only smaller ones
      channel.close();
      this.onClose(channel);
      return false;
    }
  }

  /** @override @param {number} header @param {Uint8Array} part @internal */
  onFrame(header, part) {
    const kind = header % MORE;
    if (kind <= MAX_KIND) return this.#onPart(kind, header >= MORE, part);
    if (header > RESUME) return this.fail('malformed');
    if (header === PONG) emit(this, 'pong', null);
    if (header === CANCEL) this.#reset();
    if (header >= ACK) this.#onNumber(header, part);
    else super.onFrame(header, part);
  }

  /**
   * @param {number} kind
   * @param {boolean} more
   * @param {Uint8Array} part
   */
  #onPart(kind, more, part) {
    const differs = this.#size > 0 && kind !== this.#kind;
    if (differs || (more && part.length === 0)) return this.fail('malformed');
    if (this.#size + part.length > this.#maxMessageBytes) return this.fail('too-large');
    this.#kind = kind;
    if ((more || this.#size > 0) && !this.#append(part)) return this.fail('too-large');
    if (more) return;
    const message = this.#size > 0 ? this.#buffer.subarray(0, this.#size) : part;
    this.#reset();
    const waiting = this.isHeard ? 0 : message.length + MESSAGE_OVERHEAD;
    this.#waitingBytes += waiting;
    if (!this.#hold(waiting) || this.#waitingBytes > this.#maxMessageBytes + MESSAGE_OVERHEAD) this.fail('too-large');
    else this.onMessage(kind, message);
  }

  /**
   * Counts bytes, or that they are free again. Returns whether there is memory for them.
   * @param {number} bytes
   */
  #hold(bytes) {
    this.#held += bytes;
    this.#memory.used += bytes;
    return this.#memory.used <= this.#memory.limit;
  }

  /**
   * What waits for the first listener is free then.
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
  /** @override @param {Parameters<EventTarget['addEventListener']>} listener */
  addEventListener(...listener) {
    super.addEventListener(...listener);
    if (listener[0] !== 'message') return;
    this.#hold(-this.#waitingBytes);
    this.#waitingBytes = 0;
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} part
   */
  #onNumber(kind, part) {
    const count = part.length === 8 ? new DataView(part.buffer, part.byteOffset).getFloat64(0) : -1;
    if (kind === RESUME && this.#isFirst && count === 0 && this.received === 0) return this.#onUnknown();
    const isValid = Number.isInteger(count) && count >= this.#acknowledged && count <= this.#acknowledged + this.#sent;
    if (!isValid || (kind === RESUME) === this.#resumed) return this.fail('malformed');
    this.#onAck(count);
    if (this.#resumed) return;
    this.#sent = this.#sentBytes = 0; // the others are sent again
    this.#resumed = true;
    void this.#pump();
  }

  /** Answers a remote peer that has created the channel over a connection that was lost before this side knew of it. */
  #onUnknown() {
    this.#isFirst = false;
    this.sendNumber(RESUME);
  }

  /**
   * Adds a part to the message. The buffer doubles, so that small frames cost no more than large ones.
   * Returns false if there is no memory for it.
   * @param {Uint8Array} part
   */
  #append(part) {
    const size = this.#size + part.length;
    if (size > this.#buffer.length) {
      const length = Math.min(this.#maxMessageBytes, Math.max(size, 2 * this.#buffer.length));
      if (!this.#hold(length - this.#buffer.length)) return false;
      const grown = new Uint8Array(length);
      grown.set(this.#buffer.subarray(0, this.#size));
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#size);
    this.#size = size;
    return true;
  }

  #reset() {
    this.#hold(-this.#buffer.length);
    this.#buffer = new Uint8Array(0);
    this.#size = 0;
  }

  /**
   * Counts a message. One acknowledgement covers all before it.
   * @override
   * @param {number} bytes
   * @internal
   */
  acknowledge(bytes) {
    this.#unacknowledged += bytes + MESSAGE_OVERHEAD;
    const send = () => {
      clearTimeout(this.#ackTimer);
      this.#ackTimer = undefined;
      this.#unacknowledged = 0;
      if (this.state !== 'connecting') this.sendNumber(ACK);
    };
    if (this.#unacknowledged >= ACK_BYTES) send();
    else this.#ackTimer ??= setTimeout(send, ACK_DELAY);
  }

  #tooLarge() {
    return new InboxError('too-large', `a message has at most ${this.#maxMessageBytes} bytes`);
  }

  /** @override @param {'malformed'|'too-large'} code @internal */
  fail(code) {
    if (this.state === 'closed') return;
    this.#reset();
    super.fail(code);
  }
}

/**
 * @param {Uint8Array | Blob} body
 * @param {number} start
 * @param {number} end
 */
async function partOf(body, start, end) {
  return body instanceof Blob ? new Uint8Array(await body.slice(start, end).arrayBuffer()) : body.subarray(start, end);
}
