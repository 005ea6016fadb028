/**
 * Receives messages as Server-Sent Events (docs/protocol.md), read with fetch, which sends the
 * credentials like any request.
 */

import {mediaTypes} from './media-types.js';

/** Milliseconds in which the first bytes must arrive. They do not if a proxy collects the response. */
const FIRST_BYTES_LIMIT = 5_000;
/** Milliseconds without a message or a heartbeat, which the server sends every 25 seconds. */
const SILENCE_LIMIT = 55_000;
/** Milliseconds before an acknowledgement that failed is sent again. */
const ACK_RETRY = 2_000;

/** @typedef {import('./transports.js').Stream} Stream */

/**
 * Opens an event stream, which is open when its first bytes have arrived.
 * @type {import('./transports.js').OpenStream}
 */
export const open = options => new EventStream(options);

/** @implements {Stream} */
class EventStream {
  #abort = new AbortController();
  #signal = this.#abort.signal;
  #acked = '';
  #isAcking = false;
  /** The event whose lines arrive. */
  #event = {id: '', type: '', data: ''};
  #options;

  /** @param {import('./transports.js').Connection & import('./transports.js').StreamListener} options */
  constructor(options) {
    this.#options = options;
    this.#read().then(() => options.end('lost'), error => options.end('lost', error));
  }

  /** Reads until the stream ends. */
  async #read() {
    const {inbox, client, readResponse, takeOver, onOpen, limit} = this.#options;
    const query = {after: await takeOver(), client, resume: '1'};
    limit(FIRST_BYTES_LIMIT);
    const response = await inbox.open(inbox.urlOf(query), {headers: {Accept: 'text/event-stream'}, signal: this.#signal});
    const isEventStream = response.status === 200 && response.headers.get('Content-Type')?.startsWith('text/event-stream');
    if (!isEventStream) throw await readResponse(response, 'GET', query);
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const decoder = new TextDecoder();
    for (let rest = '', isFirst = true; ; isFirst = false) {
      const {done, value} = await reader.read();
      if (done || this.#signal.aborted) return;
      limit(SILENCE_LIMIT);
      if (isFirst) onOpen();
      const lines = (rest + decoder.decode(value, {stream: true})).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#onLine(line);
    }
  }

  /** Parses a line of an event stream (HTML Standard, section 9.2). @param {string} line */
  #onLine(line) {
    const event = this.#event;
    const [, field, colon, value] = /^([^:\r]*)(:?) ?([^\r]*)/.exec(line) ?? [];
    if (field === 'id') event.id = value;
    if (field === 'event') event.type = value;
    if (field === 'data') event.data += (event.data && '\n') + value;
    if (field || colon) return;
    this.#event = {id: '', type: '', data: ''};
    if (!this.#signal.aborted) this.#onEvent(event);
  }

  /** @param {{id: string, type: string, data: string}} event */
  #onEvent({id, type, data}) {
    if (type === 'end') return this.#options.end(/** @type {import('./transports.js').EndReason} */ (data));
    if (!data || (type && type !== 'message')) return;
    const {from, type: kind, body, body64} = JSON.parse(data);
    const bytes = body64 !== undefined && Uint8Array.from(atob(body64), char => char.charCodeAt(0)).buffer;
    this.#options.onMessage({id, from: encodeURIComponent(from), type: mediaTypes[kind] ?? mediaTypes.bytes, body: bytes || body});
  }

  /** @param {string} id */
  ack(id) {
    this.#acked = id;
    if (!this.#isAcking) void this.#sendAcks();
  }

  /** Sends the newest acknowledgement, one request at a time, until the server has it. */
  async #sendAcks() {
    const signal = this.#signal;
    this.#isAcking = true;
    for (let sent = ''; !signal.aborted && sent !== this.#acked;) {
      const id = this.#acked;
      try {
        await this.#options.inbox.request('POST', {upTo: id}, {path: '/ack', signal});
        sent = id;
      } catch (error) {
        const {retryAfter = 0} = /** @type {{retryAfter?: number}} */ (error);
        await new Promise(resolve => setTimeout(resolve, Math.max(ACK_RETRY, retryAfter * 1000)));
      }
    }
    this.#isAcking = false;
  }

  close() {
    this.#abort.abort();
  }
}
