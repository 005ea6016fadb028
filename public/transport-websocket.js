/** Receives and sends messages over a WebSocket (subprotocol inbox.1, docs/protocol.md). */

import {mediaTypes} from './media-types.js';

/** Milliseconds in which the server must welcome the client. Polls receive until then. */
const WELCOME_LIMIT = 15_000;
/** Milliseconds in which the server must answer a message beyond its wait, and a check of the connection. */
const ANSWER_LIMIT = 10_000;
const CHECK_LIMIT = 2_000;
/** Maximum number of messages that wait for their recipients on one connection, as at the server. */
const MAX_WAITING = 16;
/** A connection is checked when nothing arrived for this many ping intervals of the server. */
const SILENT_PINGS = 2;

/**
 * @typedef {{wait: number, resolve: () => void, reject: (error?: unknown) => void, timer: ReturnType<typeof setTimeout>}} Pending
 */

/**
 * Opens a WebSocket.
 * @type {import('./transports.js').OpenStream}
 */
export function open({url, name, password, client, requests, problemError, WebSocket, takeOver, onOpen, onMessage, limit, end}) {
  /** The messages without an answer, by their number. @type {Map<number, Pending>} */
  const pending = new Map();
  let ref = 0;
  let isOpen = false;
  let isClosed = false;
  let isChecking = false;
  /** Whether something arrived since the last look. */
  let isAlive = false;
  let watch = 0;

  const socket = new (/** @type {typeof globalThis.WebSocket} */ (WebSocket))(url.replace(/^http/, 'ws'), 'inbox.1');
  socket.binaryType = 'arraybuffer';
  limit(WELCOME_LIMIT);
  socket.addEventListener('open', async () => {
    const after = isClosed ? '' : await takeOver();
    if (isClosed) return socket.close();
    const invite = requests.invite && ` invite=${encodeURIComponent(requests.invite)}`;
    socket.send(`hello ${encodeURIComponent(name)} ${encodeURIComponent(password)} after=${after} client=${client} resume=1${invite}`);
  });
  socket.addEventListener('close', () => end('lost'));
  socket.addEventListener('message', ({data}) => {
    if (isClosed) return;
    isAlive = true;
    isChecking = false;
    if (isOpen) limit();
    // The fields are ASCII, so a character is a byte, which is true of the rest in Latin-1 only.
    const frame = typeof data === 'string' ? data : new TextDecoder('latin1').decode(data);
    const fields = frame.split(' ', 5);
    const after = (/** @type {number} */ count) => data.slice(fields.slice(0, count).join(' ').length + 1);
    const [verb, first, second, third, fourth] = fields;
    if (verb === 'welcome') onWelcome(Number(second), Number(fourth) || 25);
    if (verb === 'msg') onMessage({id: first, from: second, type: mediaTypes[third] ?? mediaTypes.bytes, body: after(4)});
    if (verb === 'ok') onOk(Number(first));
    if (verb === 'fail') onFail(Number(first), after(2));
    if (verb === 'end') end(/** @type {import('./transports.js').EndReason} */ (first));
  });

  const stream = {
    maxBodyBytes: 0,

    /**
     * @param {string} to
     * @param {import('./transports.js').Sendable} message
     * @param {number} wait seconds
     * @returns {Promise<void> | null}
     */
    send(to, {type, body}, wait) {
      if (wait && [...pending.values()].filter(pending => pending.wait).length >= MAX_WAITING) return null;
      return new Promise((resolve, reject) => {
        if (isClosed) return reject();
        const kind = Object.keys(mediaTypes).find(key => mediaTypes[key] === type) ?? 'bytes';
        const timer = setTimeout(end, wait * 1000 + ANSWER_LIMIT, 'silent');
        pending.set(++ref, {wait, resolve, reject, timer});
        socket.send(join(`send ${ref} ${encodeURIComponent(to)}${wait ? `?wait=${wait}` : ''} ${kind} `, body));
      });
    },

    /** @param {string} id */
    ack(id) {
      socket.send(`ack ${id}`);
    },

    /** Asks for an answer: a page does not see the pings of the server. */
    check(milliseconds = CHECK_LIMIT) {
      if (isChecking) return;
      isChecking = true;
      limit(milliseconds);
      socket.send('ping');
    },

    /** @param {string} reason */
    close(reason) {
      isClosed = true;
      clearInterval(watch);
      // A browser warns of a socket that is closed while it connects.
      if (socket.readyState > 0 || reason === 'silent') socket.close();
      for (const number of pending.keys()) take(number)?.reject();
    },
  };
  return stream;

  /**
   * @param {number} maxBodyBytes
   * @param {number} ping seconds between the pings of the server
   */
  function onWelcome(maxBodyBytes, ping) {
    isOpen = true;
    isAlive = false;
    stream.maxBodyBytes = maxBodyBytes;
    limit();
    watch = Number(setInterval(() => {
      if (!isAlive) stream.check(ANSWER_LIMIT);
      isAlive = false;
    }, 1000 * SILENT_PINGS * ping));
    onOpen();
  }

  /** Resolves a message, and the earlier ones without wait. @param {number} number */
  function onOk(number) {
    for (const [earlier, {wait}] of pending) {
      if (earlier === number || (earlier < number && !wait)) take(earlier)?.resolve();
    }
  }

  /** @param {number} number @param {string} problem */
  function onFail(number, problem) {
    const error = problemError(problem);
    if (isOpen) take(number)?.reject(error);
    else end('lost', error);
  }

  /** @param {number} number */
  function take(number) {
    const message = pending.get(number);
    clearTimeout(message?.timer);
    pending.delete(number);
    return message;
  }
}

/**
 * @param {string} start
 * @param {string | Uint8Array} body
 */
function join(start, body) {
  if (typeof body === 'string') return start + body;
  const frame = new Uint8Array(start.length + body.length);
  new TextEncoder().encodeInto(start, frame);
  frame.set(body, start.length);
  return frame;
}
