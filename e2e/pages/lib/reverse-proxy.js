/** A reverse proxy for a server on plain HTTP. It can respond instead of the server. */

import {once} from 'node:events';
import {createServer, request} from 'node:http';
import {connect} from 'node:net';

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 */

export class ReverseProxy {
  /** Responds to a request itself and returns true, or returns false. @type {(request: Request, response: Response) => boolean} */
  intercept = () => false;
  /** Milliseconds after which a request without a response gets 504. */
  timeout = 60_000;
  /** What happens to a request for a WebSocket: refuse responds with 502, ignore never responds. @type {'forward'|'refuse'|'ignore'} */
  webSockets = 'forward';
  /** Whether a response is collected, and forwarded when it has ended. */
  buffers = false;
  /** @type {string[]} the requests to the mailbox, with method and query */
  requests = [];
  /** @type {Set<import('node:stream').Duplex>} connections of WebSockets */
  #sockets = new Set();
  #server;
  #target;
  #port = 0;

  /** @param {string} target the origin of the server */
  constructor(target) {
    this.#target = new URL(target);
    this.#server = createServer((incoming, outgoing) => this.#handle(incoming, outgoing));
    this.#server.on('upgrade', (incoming, socket) => this.#upgrade(incoming, socket));
  }

  get origin() {
    return `http://localhost:${this.#port}`;
  }

  async start() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = /** @type {import('node:net').AddressInfo} */ (this.#server.address()).port;
  }

  stop() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** @param {Request} incoming @param {import('node:stream').Duplex} socket */
  #upgrade({method, url, rawHeaders}, socket) {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    if (this.webSockets === 'refuse') return void socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n');
    if (this.webSockets === 'ignore') return;
    const upstream = connect(Number(this.#target.port), this.#target.hostname);
    const fields = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? `${name}: ${rawHeaders[i + 1]}\r\n` : []));
    upstream.write(`${method} ${url} HTTP/1.1\r\n${fields.join('')}\r\n`);
    upstream.pipe(socket).pipe(upstream);
    upstream.on('error', () => socket.destroy());
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) from.on('close', () => to.destroy());
  }

  /** @param {Request} incoming @param {Response} outgoing */
  #handle(incoming, outgoing) {
    if (isMailbox(incoming)) this.requests.push(`${incoming.method} ${incoming.url}`);
    if (this.intercept(incoming, outgoing)) return;
    const {method, headers, url: path} = incoming;
    const {hostname, port} = this.#target;
    const upstream = request({hostname, port, path, method, headers}, response => {
      clearTimeout(timer);
      if (!this.buffers) outgoing.writeHead(response.statusCode ?? 0, response.headers);
      if (this.buffers) void collect(response).then(body => outgoing.writeHead(response.statusCode ?? 0, response.headers).end(body), () => outgoing.destroy());
      else response.pipe(outgoing);
    });
    const timer = setTimeout(() => {
      upstream.destroy();
      outgoing.writeHead(504, {'Content-Type': 'text/html'}).end('<h1>504 Gateway Time-out</h1>');
    }, this.timeout);
    upstream.on('error', () => outgoing.destroy());
    outgoing.on('close', () => {
      clearTimeout(timer);
      upstream.destroy();
    });
    incoming.pipe(upstream);
  }
}

/** @param {AsyncIterable<Buffer>} stream */
async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** @param {Request} request */
export const isMailbox = ({url = ''}) => /^\/(inbox|ice)(\?|$)/.test(url);
