/** A reverse proxy for a server on plain HTTP. It can respond instead of the server. */

import {once} from 'node:events';
import {createServer, request} from 'node:http';

/**
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {import('node:http').ServerResponse} Response
 */

export class ReverseProxy {
  /** Responds to a request itself and returns true, or returns false. @type {(request: Request, response: Response) => boolean} */
  intercept = () => false;
  /** Milliseconds after which a request without a response gets 504. */
  timeout = 60_000;
  /** @type {string[]} the requests to the mailbox, with method and query */
  requests = [];
  #server;
  #target;
  #port = 0;

  /** @param {string} target the origin of the server */
  constructor(target) {
    this.#target = new URL(target);
    this.#server = createServer((incoming, outgoing) => this.#handle(incoming, outgoing));
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
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** @param {Request} incoming @param {Response} outgoing */
  #handle(incoming, outgoing) {
    if (isMailbox(incoming)) this.requests.push(`${incoming.method} ${incoming.url}`);
    if (this.intercept(incoming, outgoing)) return;
    const {method, headers, url: path} = incoming;
    const {hostname, port} = this.#target;
    const upstream = request({hostname, port, path, method, headers}, response => {
      clearTimeout(timer);
      outgoing.writeHead(response.statusCode ?? 0, response.headers);
      response.pipe(outgoing);
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

/** @param {Request} request */
export const isMailbox = ({url = ''}) => /^\/(inbox|ice)(\?|$)/.test(url);
