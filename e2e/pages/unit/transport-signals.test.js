/** Tests that streams leave nothing behind at the signal of their inbox, which outlives them. */

import assert from 'node:assert/strict';
import {getEventListeners} from 'node:events';
import {test} from 'node:test';
import {readResponse} from '../../../public/codec.js';
import {on} from '../../../public/events.js';
import {Streams} from '../../../public/streams.js';
import {broken} from '../../../public/transports.js';
import {onWake} from '../../../public/wake.js';
import {FakeEvents, FakeSocket, FakeWebSocket} from '../lib/fakesocket.js';

/**
 * @param {'websocket'|'stream'} name
 * @param {() => Response} respond to the request for an event stream
 */
function newStreams(name, respond = () => new FakeEvents().response()) {
  broken.clear();
  FakeSocket.reset();
  return new Streams(/** @type {any} */ ({
    names: [name], broken,
    connection: {
      url: 'https://inbox.example/inbox', name: 'ann', password: 'secret', client: 'phone', WebSocket: FakeWebSocket,
      inbox: {open: async () => respond(), urlOf: () => ''}, readResponse,
    },
    isConnected: () => true, takeOver: async () => '', onTransport() {}, onLost() {}, upgrade() {}, on, onWake,
  }));
}

for (const name of /** @type {const} */ (['websocket', 'stream'])) {
  test(`${name}: no listener is left when it has ended`, async () => {
    const controller = new AbortController();
    const streams = newStreams(name);
    for (let round = 0; round < 3; round++) {
      await streams.upgrade(controller.signal);
      assert.equal(streams.transport, name);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 1);
      const other = new AbortController();
      Object.defineProperty(streams, 'due', {value: [name], configurable: true});
      await streams.upgrade(other.signal); // takes over
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
      other.abort();
      assert.equal(await streams.ended, 'lost');
      assert.equal(getEventListeners(other.signal, 'abort').length, 0);
    }
  });
}

test('event stream: no listener is left when it cannot be opened', async () => {
  const {signal} = new AbortController();
  await newStreams('stream', () => new Response(null, {status: 204})).upgrade(signal);
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});
