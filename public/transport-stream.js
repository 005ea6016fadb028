/**
 * Receives messages as Server-Sent Events (docs/protocol.md), read with fetch, which sends the
 * credentials like any request. This module imports nothing: see transports.js, which has
 * its types.
 */

/** Milliseconds in which the first bytes must arrive. They do not if a proxy collects the response. */
const FIRST_BYTES_LIMIT = 5_000;
/** Milliseconds without a message or a heartbeat, which the server sends every 25 seconds. */
const SILENCE_LIMIT = 55_000;
/** Milliseconds before an acknowledgement that failed is sent again. */
const ACK_RETRY = 2_000;

/** The media types by their name in an event. @type {Record<string, string>} */
const mediaTypes = {
  json: 'application/json', sdp: 'application/sdp', frag: 'application/trickle-ice-sdpfrag', text: 'text/plain',
};

/**
 * @typedef {import('./transports.js').Connection & import('./transports.js').StreamListener} StreamOptions
 * @typedef {import('./transports.js').Stream} Stream
 */

/**
 * Opens an event stream. Resolves when its first bytes have arrived.
 * @param {StreamOptions} options
 * @returns {Promise<Stream>}
 */
export async function open(options) {
  const stream = new EventStream(options);
  await stream.open();
  return stream;
}

/** @implements {Stream} */
class EventStream {
  #abort = new AbortController();
  #isOpen = false;
  #acked = '';
  #acking = false;
  /** Ends the stream when it fires. @type {ReturnType<typeof setTimeout> | undefined} */
  #limit;
  #options;

  /** @param {StreamOptions} options */
  constructor(options) {
    this.#options = options;
    const onAbort = () => this.#abort.abort();
    options.signal.addEventListener('abort', onAbort);
    // The signal outlives the stream.
    this.#abort.signal.addEventListener('abort', () => options.signal.removeEventListener('abort', onAbort));
  }

  /** Sends the request and reads the first bytes. */
  async open() {
    const {requests, client, takeOver} = this.#options;
    const {signal} = this.#abort;
    try {
      const query = {after: await takeOver(), client, resume: '1'};
      this.#setLimit(FIRST_BYTES_LIMIT);
      const response = await requests.open('GET', query, {accept: 'text/event-stream', signal});
      if (response.status !== 200 || !isEventStream(response)) throw await refusal(response);
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      const first = await reader.read();
      if (first.done) throw new Error('the stream is empty');
      this.#isOpen = true;
      // Later, because the caller does not have the stream yet.
      setTimeout(() => void this.#read(reader, first.value), 0);
    } catch (reason) {
      clearTimeout(this.#limit);
      this.#abort.abort(); // the body of another response can be endless
      throw reason;
    }
  }

  /**
   * Reads until the stream ends.
   * @param {ReadableStreamDefaultReader<Uint8Array>} reader
   * @param {Uint8Array} first
   */
  async #read(reader, first) {
    const decoder = new TextDecoder();
    const lines = new Lines(event => this.#onEvent(event));
    try {
      for (let chunk = {done: false, value: /** @type {Uint8Array | undefined} */ (first)}; this.#isOpen && !chunk.done; chunk = await reader.read()) {
        this.#setLimit(SILENCE_LIMIT);
        lines.push(decoder.decode(chunk.value, {stream: true}));
      }
    } catch { /* the connection was lost */ }
    this.#end('lost');
  }

  /** @param {{id: string, type: string, data: string}} event */
  #onEvent({id, type, data}) {
    if (!this.#isOpen) return;
    if (type === 'end') return this.#end(/** @type {import('./transports.js').EndReason} */ (data));
    if (type !== 'message') return;
    const {from, type: kind, body, body64} = JSON.parse(data);
    this.#options.onMessage({
      id, from: encodeURIComponent(from), type: mediaTypes[kind] ?? 'application/octet-stream', body: body64 === undefined ? body : bytes(body64),
    });
  }

  /** @param {string} id */
  ack(id) {
    this.#acked = id;
    if (!this.#acking) void this.#sendAcks();
  }

  /** Sends the newest acknowledgement, one request at a time, until the server has it. */
  async #sendAcks() {
    this.#acking = true;
    for (let sent = ''; this.#isOpen && sent !== this.#acked;) {
      const id = this.#acked;
      try {
        await this.#options.requests.send('POST', {upTo: id}, {path: '/ack', signals: [this.#abort.signal]});
        sent = id;
      } catch (error) {
        const {retryAfter = 0} = /** @type {{retryAfter?: number}} */ (error);
        await new Promise(resolve => setTimeout(resolve, Math.max(ACK_RETRY, retryAfter * 1000)));
      }
    }
    this.#acking = false;
  }

  close() {
    this.#end('lost');
  }

  /** @param {number} milliseconds */
  #setLimit(milliseconds) {
    clearTimeout(this.#limit);
    this.#limit = setTimeout(() => {
      this.#end('silent');
      this.#abort.abort();
    }, milliseconds);
  }

  /** @param {import('./transports.js').StreamEnd} reason */
  #end(reason) {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    clearTimeout(this.#limit);
    this.#abort.abort();
    this.#options.onEnd(reason);
  }
}

/** @param {Response} response */
function isEventStream({headers}) {
  return /^text\/event-stream\b/.test(headers.get('Content-Type') ?? '');
}

/**
 * Returns why a stream cannot be opened: a problem of the server, or an error.
 * @param {Response} response
 */
async function refusal(response) {
  if (!/^application\/problem\+json\b/.test(response.headers.get('Content-Type') ?? '')) return new Error('the response is no event stream');
  return {problem: {...await response.json(), retryAfter: Number(response.headers.get('Retry-After')) || 0}};
}

/** @param {string} base64 */
function bytes(base64) {
  return Uint8Array.from(atob(base64), char => char.charCodeAt(0)).buffer;
}

/** Lines parses the lines of an event stream (HTML Standard, section 9.2). */
class Lines {
  #rest = '';
  #event = {id: '', type: 'message', data: ''};
  #onEvent;

  /** @param {(event: {id: string, type: string, data: string}) => void} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** @param {string} text */
  push(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(line.replace(/\r$/, ''));
  }

  /** @param {string} line */
  #onLine(line) {
    if (line === '') {
      const event = this.#event;
      this.#event = {id: '', type: 'message', data: ''};
      if (event.data) this.#onEvent(event);
      return;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === 'id') this.#event.id = value;
    if (field === 'event') this.#event.type = value;
    if (field === 'data') this.#event.data += this.#event.data ? `\n${value}` : value;
  }
}
