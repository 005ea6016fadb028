/** A proxy whose connections can be stalled: they stay open, and nothing passes any more. */

import {once} from 'node:events';
import {connect, createServer} from 'node:net';

export class StallingProxy {
  /** @type {Set<import('node:net').Socket[]>} */
  #pairs = new Set();
  #server;

  /** @param {number} port of the server on 127.0.0.1 */
  constructor(port) {
    this.#server = createServer(near => {
      const far = connect(port, '127.0.0.1');
      const pair = [near, far];
      this.#pairs.add(pair);
      near.pipe(far);
      far.pipe(near);
      const end = () => {
        this.#pairs.delete(pair);
        for (const socket of pair) socket.destroy();
      };
      for (const socket of pair) socket.on('error', end).on('close', end);
    });
  }

  /** Returns the port. */
  async start() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    return address && typeof address === 'object' ? address.port : 0;
  }

  /** Stalls the connections that are open. */
  stall() {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  stop() {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#server.close();
  }
}
