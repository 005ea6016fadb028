/**
 * Receives and sends messages over a WebSocket (subprotocol inbox.1, docs/protocol.md). This
 * module imports nothing: see transports.js, which has its types.
 */

/** Milliseconds in which the server must welcome the client. Polls receive until then. */
const WELCOME_LIMIT = 15_000;
/** Milliseconds in which the server must answer a message beyond its wait, and a check of the connection. */
const ANSWER_LIMIT = 10_000;
const CHECK_LIMIT = 2_000;
/** Maximum number of messages that wait for their recipients on one connection, as at the server. */
const MAX_WAITING = 16;
/** A connection is checked when nothing arrived for this many ping intervals of the server. */
const SILENT_PINGS = 2;

/** The state of a socket before it is open. */
const CONNECTING = 0;

/** The media types by their name in a frame. @type {Record<string, string>} */
const mediaTypes = {
  json: 'application/json', sdp: 'application/sdp', frag: 'application/trickle-ice-sdpfrag',
  text: 'text/plain', bytes: 'application/octet-stream',
};

/**
 * @typedef {import('./transports.js').Connection & import('./transports.js').StreamListener} StreamOptions
 * @typedef {import('./transports.js').Stream} Stream
 * @typedef {{wait: number, resolve: () => void, reject: (failure: import('./transports.js').SendFailure) => void, timer: ReturnType<typeof setTimeout>}} Pending
 */

/**
 * Opens a WebSocket. Resolves when the server has welcomed the client.
 * @param {StreamOptions} options
 * @returns {Promise<Stream>}
 */
export function open(options) {
  return new Promise((resolve, reject) => new Connection(options, resolve, reject));
}

/** @implements {Stream} */
class Connection {
  maxBodyBytes = 0;
  /** @type {'opening'|'open'|'closed'} */
  #state = 'opening';
  #ref = 0;
  /** The messages without an answer, by their number. @type {Map<number, Pending>} */
  #pending = new Map();
  #pingInterval = Infinity;
  /** Whether something arrived since the last look. */
  #alive = false;
  /** Ends the connection when it fires. @type {ReturnType<typeof setTimeout> | undefined} */
  #limit;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watch;
  /** Removed at the end: the signal outlives the connection. */
  #onAbort = () => this.#end('lost');
  #options;
  #resolve;
  #reject;
  #socket;

  /**
   * @param {StreamOptions} options
   * @param {(stream: Stream) => void} resolve
   * @param {(reason: unknown) => void} reject
   */
  constructor(options, resolve, reject) {
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    const {url, WebSocket, signal} = options;
    if (!WebSocket) throw new Error('this browser has no WebSocket');
    const socket = new WebSocket(url.replace(/^http/, 'ws'), 'inbox.1');
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('open', () => (this.#state === 'opening' ? void this.#hello() : socket.close()));
    socket.addEventListener('message', ({data}) => this.#state !== 'closed' && this.#receive(data));
    socket.addEventListener('close', () => this.#end('lost'));
    signal.addEventListener('abort', this.#onAbort);
    this.#limit = setTimeout(() => {
      this.#end('silent');
      socket.close();
    }, WELCOME_LIMIT);
  }

  async #hello() {
    const {name, password, client, requests, takeOver} = this.#options;
    const after = await takeOver();
    const invite = requests.invite && ` invite=${encodeURIComponent(requests.invite)}`;
    if (this.#state === 'opening') this.#socket.send(`hello ${encodeURIComponent(name)} ${encodeURIComponent(password)} after=${after} client=${client} resume=1${invite}`);
  }

  /** @param {string | ArrayBuffer} frame */
  #receive(frame) {
    this.#alive = true;
    if (this.#state === 'open') this.#setLimit();
    const [verb, ...fields] = head(frame, 2);
    if (verb === 'welcome') this.#onWelcome(head(frame, 5));
    else if (verb === 'msg') this.#onMessage(frame);
    else if (verb === 'ok') this.#onOk(Number(fields[0]));
    else if (verb === 'fail') this.#onFail(Number(fields[0]), text(rest(frame, 2)));
    else if (verb === 'end') this.#end(/** @type {import('./transports.js').EndReason} */ (fields[0]));
  }

  /** @param {string[]} fields */
  #onWelcome([, , maxBody, , ping]) {
    this.#state = 'open';
    this.maxBodyBytes = Number(maxBody);
    this.#pingInterval = 1000 * (Number(ping) || 25);
    this.#setLimit();
    this.#lookLater();
    this.#resolve(this);
  }

  /** @param {string | ArrayBuffer} frame */
  #onMessage(frame) {
    const [, id, from, kind] = head(frame, 4);
    this.#options.onMessage({id, from, type: mediaTypes[kind] ?? mediaTypes.bytes, body: rest(frame, 4)});
  }

  /** Resolves a message, and the earlier ones without wait. @param {number} ref */
  #onOk(ref) {
    for (const [earlier, {wait}] of this.#pending) {
      if (earlier === ref || (earlier < ref && wait === 0)) this.#take(earlier)?.resolve();
    }
  }

  /** @param {number} ref @param {string} json */
  #onFail(ref, json) {
    /** @type {import('./transports.js').Problem} */
    let problem = {};
    try {
      problem = JSON.parse(json);
    } catch { /* the server is not an inbox server */ }
    if (this.#state === 'opening') {
      this.#reject({problem});
      return this.#end('lost');
    }
    this.#take(ref)?.reject({problem});
  }

  /** @param {number} ref */
  #take(ref) {
    const pending = this.#pending.get(ref);
    clearTimeout(pending?.timer);
    this.#pending.delete(ref);
    return pending;
  }

  /**
   * @param {string} to
   * @param {import('./transports.js').Sendable} message
   * @param {number} wait seconds
   * @returns {Promise<void> | null}
   */
  send(to, {type, body}, wait) {
    const waiting = [...this.#pending.values()].filter(pending => pending.wait > 0).length;
    if (wait > 0 && waiting >= MAX_WAITING) return null;
    return new Promise((resolve, reject) => {
      if (this.#state !== 'open') return reject({lost: true});
      const ref = ++this.#ref;
      const kind = Object.keys(mediaTypes).find(key => mediaTypes[key] === type) ?? 'bytes';
      const recipient = encodeURIComponent(to) + (wait > 0 ? `?wait=${wait}` : '');
      const timer = setTimeout(() => this.#end('silent'), wait * 1000 + ANSWER_LIMIT);
      this.#pending.set(ref, {wait, resolve, reject, timer});
      this.#socket.send(join(`send ${ref} ${recipient} ${kind} `, body));
    });
  }

  /** @param {string} id */
  ack(id) {
    if (this.#state === 'open') this.#socket.send(`ack ${id}`);
  }

  /** Asks for an answer: a page does not see the pings of the server. */
  check(limit = CHECK_LIMIT) {
    if (this.#state !== 'open' || this.#limit) return;
    this.#setLimit(limit);
    this.#socket.send('ping');
  }

  /** Checks the connection each time that nothing arrived for some pings. */
  #lookLater() {
    this.#alive = false;
    this.#watch = setTimeout(() => {
      if (!this.#alive) this.check(ANSWER_LIMIT);
      this.#lookLater();
    }, SILENT_PINGS * this.#pingInterval);
  }

  /** @param {number} [milliseconds] until the connection is lost; without, it is not */
  #setLimit(milliseconds) {
    clearTimeout(this.#limit);
    this.#limit = milliseconds === undefined ? undefined : setTimeout(() => this.#end('silent'), milliseconds);
  }

  close() {
    this.#end('lost');
  }

  /** @param {import('./transports.js').StreamEnd} reason */
  #end(reason) {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    clearTimeout(this.#limit);
    clearTimeout(this.#watch);
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    // A browser warns of a socket that is closed while it connects.
    if (this.#socket.readyState !== CONNECTING) this.#socket.close();
    if (wasOpen) this.#options.onEnd(reason);
    else this.#reject(new Error('the WebSocket was closed'));
    for (const ref of [...this.#pending.keys()]) this.#take(ref)?.reject({lost: true});
  }
}

/**
 * Returns the first fields of a frame.
 * @param {string | ArrayBuffer} frame
 * @param {number} count
 */
function head(frame, count) {
  const start = typeof frame === 'string' ? frame : text(frame.slice(0, bodyOffset(frame, count)));
  return start.split(' ', count);
}

/**
 * Returns what follows the first fields of a frame.
 * @param {string | ArrayBuffer} frame
 * @param {number} count
 */
function rest(frame, count) {
  return frame.slice(bodyOffset(frame, count));
}

/**
 * @param {string | ArrayBuffer} frame
 * @param {number} count of fields before the body
 */
function bodyOffset(frame, count) {
  const isText = typeof frame === 'string';
  const bytes = isText ? frame : new Uint8Array(frame);
  let offset = 0;
  for (let field = 0; field < count; field++) {
    const space = typeof bytes === 'string' ? bytes.indexOf(' ', offset) : bytes.indexOf(32, offset);
    if (space < 0) return bytes.length;
    offset = space + 1;
  }
  return offset;
}

/** @param {string | ArrayBuffer} data */
function text(data) {
  return typeof data === 'string' ? data : new TextDecoder().decode(data);
}

/**
 * @param {string} start
 * @param {string | Uint8Array} body
 */
function join(start, body) {
  if (typeof body === 'string') return start + body;
  const head = new TextEncoder().encode(start);
  const frame = new Uint8Array(head.length + body.length);
  frame.set(head);
  frame.set(body, head.length);
  return frame;
}
