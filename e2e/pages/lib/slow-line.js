/**
 * A slow line between a browser and the server: a TCP relay with a round-trip time and a
 * bandwidth that its connections share. The network conditions of Chromium delay
 * requests only, not the handshakes of TCP and TLS.
 */

import {connect, createServer} from 'node:net';

const packetBytes = 1448;

/** SlowLine listens on a free port of 127.0.0.1. */
export class SlowLine {
  /** @type {import('node:net').Server} */
  #server;

  /**
   * @param {number} port the server's, on 127.0.0.1
   * @param {{bytesPerSecond: number, roundTrip: number}} line the round trip in milliseconds
   */
  constructor(port, {bytesPerSecond, roundTrip}) {
    const directions = [new Direction(bytesPerSecond, roundTrip / 2), new Direction(bytesPerSecond, roundTrip / 2)];
    this.#server = createServer({allowHalfOpen: true, pauseOnConnect: true}, async client => {
      await new Promise(resolve => setTimeout(resolve, roundTrip)); // the handshake of TCP
      const upstream = connect({port, host: '127.0.0.1', allowHalfOpen: true});
      directions[0].carry(client, upstream);
      directions[1].carry(upstream, client);
      client.resume();
    });
  }

  /** @returns {Promise<number>} the port of the line */
  listen() {
    return new Promise(resolve => this.#server.listen(0, '127.0.0.1', () => {
      const address = this.#server.address();
      resolve(typeof address === 'object' && address ? address.port : 0);
    }));
  }

  close() {
    this.#server.close();
  }
}

class Direction {
  /** When the line has sent all bytes so far, in milliseconds. */
  #idleAt = 0;

  /** @param {number} bytesPerSecond @param {number} delay in milliseconds */
  constructor(bytesPerSecond, delay) {
    this.bytesPerSecond = bytesPerSecond;
    this.delay = delay;
  }

  /**
   * @param {import('node:net').Socket} from
   * @param {import('node:net').Socket} to
   */
  carry(from, to) {
    /** @type {(Buffer | null)[]} */
    const packets = [];
    const deliver = () => {
      const packet = packets.shift();
      if (packet) to.write(packet);
      else to.end();
    };
    const send = (/** @type {Buffer | null} */ packet) => {
      const now = performance.now();
      this.#idleAt = Math.max(now, this.#idleAt) + (packet?.length ?? 0) / this.bytesPerSecond * 1000;
      packets.push(packet); // each timer delivers the oldest packet, so that the order stays
      setTimeout(deliver, this.#idleAt + this.delay - now);
    };
    from.on('data', data => {
      for (let i = 0; i < data.length; i += packetBytes) send(data.subarray(i, i + packetBytes));
    });
    from.on('end', () => send(null));
    from.on('error', () => to.destroy());
  }
}
