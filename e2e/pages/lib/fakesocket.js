/**
 * A fake of WebSocket whose server is the test, with the frames of the subprotocol inbox.1
 * (docs/protocol.md).
 */

import {flushPromises} from './inboxes.js';

/** FakeSocket is a WebSocket whose network is the test. */
export class FakeSocket extends EventTarget {
  /** All sockets that were opened since the last reset. @type {FakeSocket[]} */
  static all = [];
  /** What happens after `new WebSocket`: a test can replace it. @type {(socket: FakeSocket) => void} */
  static connect = socket => socket.accept();
  /** The answer to hello: a frame, or null for none. @type {(socket: FakeSocket) => string | null} */
  static greeting = () => 'welcome 1790000000000000 1048576 64 25';
  static answersPings = true;

  /** @type {(string | Uint8Array)[]} frames of the client */
  frames = [];
  closed = false;
  readyState = 0;
  binaryType = 'blob';

  /** @param {string | URL} url @param {string | string[]} [protocol] */
  constructor(url, protocol) {
    super();
    this.url = String(url);
    this.protocol = protocol;
    FakeSocket.all.push(this);
    setImmediate(() => FakeSocket.connect(this));
  }

  static reset() {
    FakeSocket.all = [];
    FakeSocket.answersPings = true;
    FakeSocket.connect = socket => socket.accept();
    FakeSocket.greeting = () => 'welcome 1790000000000000 1048576 64 25';
  }

  /** @returns {FakeSocket} */
  static get last() {
    return /** @type {FakeSocket} */ (FakeSocket.all.at(-1));
  }

  /** The frames of the client with this verb. @param {string} verb */
  sent(verb) {
    return this.frames.filter(frame => String(frame).split(' ', 1)[0] === verb).map(String);
  }

  /** The server completes the opening handshake. */
  accept() {
    if (this.closed) return;
    this.readyState = 1;
    this.dispatchEvent(new Event('open'));
  }

  /** The server sends a frame. @param {string | ArrayBuffer} data */
  receive(data) {
    if (!this.closed) this.dispatchEvent(Object.assign(new Event('message'), {data}));
  }

  /** The connection ends, or cannot be opened. */
  drop() {
    if (this.closed) return;
    this.closed = true;
    this.dispatchEvent(new Event('error'));
    this.dispatchEvent(new Event('close'));
  }

  /** @param {string | Uint8Array} frame */
  send(frame) {
    this.frames.push(frame);
    const greeting = String(frame).startsWith('hello ') && FakeSocket.greeting(this);
    if (greeting) setImmediate(() => this.receive(greeting));
    if (frame === 'ping' && FakeSocket.answersPings) setImmediate(() => this.receive('pong'));
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    setImmediate(() => this.dispatchEvent(new Event('close')));
  }
}

/** FakeSocket, with the type of a WebSocket. */
export const FakeWebSocket = /** @type {typeof WebSocket} */ (/** @type {unknown} */ (FakeSocket));

/**
 * A fake of fetch: a mailbox that is empty to polls, and stores each POST. A test replaces its
 * methods.
 */
export class FakeServer {
  /** @type {{method: string, path: string, query: string, body: unknown, signal?: AbortSignal | null}[]} */
  requests = [];
  /** Answers a poll with `wait`; null: no answer. @type {(query: URLSearchParams) => Response | Promise<Response> | null} */
  poll = query => new Promise(resolve => {
    const respond = () => resolve(new Response(null, {status: 204}));
    if (query.get('wait') === '0') respond();
    else setTimeout(respond, 1000 * Number(query.get('wait')));
  });
  /** Answers a POST. @type {(query: URLSearchParams) => Response | null} */
  post = () => new Response();
  /** Answers an acknowledgement. @type {() => Response} */
  ack = () => new Response(null, {status: 204});
  /** Answers an event stream. @type {(query: URLSearchParams) => FakeEvents | Response | Promise<Response> | null} */
  stream = () => null;

  /** @type {typeof globalThis.fetch} */
  fetch = (input, options = {}) => new Promise((resolve, reject) => {
    const url = new URL(String(input));
    const {method = 'GET', body = null, signal, headers} = options;
    this.requests.push({method, path: url.pathname, query: url.search.slice(1), body, signal});
    signal?.addEventListener('abort', () => reject(signal.reason));
    const isStream = new Headers(headers).get('Accept') === 'text/event-stream';
    if (isStream) return void answer(this.#events(url.searchParams, signal), resolve, reject);
    if (method === 'GET') return void answer(this.poll(url.searchParams), resolve, reject);
    if (url.pathname.endsWith('/ack')) return resolve(this.ack());
    void answer(this.post(url.searchParams), resolve, reject);
  });

  /** @param {URLSearchParams} query @param {AbortSignal | null} [signal] */
  #events(query, signal) {
    const events = this.stream(query);
    if (!(events instanceof FakeEvents)) return events;
    signal?.addEventListener('abort', () => events.cancel(signal.reason));
    return events.response();
  }

  /** The queries of the polls, of POSTs, or of acknowledgements. @param {'GET'|'POST'} method */
  queries(method, path = '/inbox') {
    return this.requests.filter(request => request.method === method && request.path === path).map(({query}) => query);
  }
}

/**
 * @param {Response | Promise<Response> | null} response
 * @param {(response: Response) => void} resolve
 * @param {(reason: unknown) => void} reject
 */
async function answer(response, resolve, reject) {
  try {
    const found = await response;
    if (found) resolve(found);
  } catch (reason) {
    reject(reason);
  }
}

/** FakeEvents is the body of an event stream. */
export class FakeEvents {
  /** @type {ReadableStreamDefaultController<Uint8Array> | undefined} */
  #controller;
  cancelled = false;
  #body = new ReadableStream({start: controller => { this.#controller = controller; }});

  /** @param {string} [first] the first bytes */
  constructor(first = 'retry: 1000\n\n') {
    this.send(first);
  }

  /** @param {string} text */
  send(text) {
    if (!this.cancelled && text) this.#controller?.enqueue(new TextEncoder().encode(text));
  }

  /** @param {string} id @param {object} data */
  message(id, data) {
    this.send(`id: ${id}\nevent: message\ndata: ${JSON.stringify({from: 'bob', ...data})}\n\n`);
  }

  end() {
    this.#controller?.close();
  }

  drop() {
    this.#controller?.error(new TypeError('connection lost'));
  }

  /** The client aborts the request. @param {unknown} reason */
  cancel(reason) {
    if (!this.cancelled) this.#controller?.error(reason);
    this.cancelled = true;
  }

  response() {
    return new Response(this.#body, {headers: {'Content-Type': 'text/event-stream'}});
  }
}

/** Advances the mock clock in steps of 10 ms. @param {import('node:test').TestContext} t @param {number} milliseconds */
export async function tick(t, milliseconds) {
  for (let time = 0; time < milliseconds; time += 10) {
    t.mock.timers.tick(10);
    await flushPromises();
    await flushPromises();
  }
}
