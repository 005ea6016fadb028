/** Tests that streams leave nothing behind at the signal of their inbox, which outlives them. */

import assert from 'node:assert/strict';
import {getEventListeners} from 'node:events';
import {test} from 'node:test';
import {open as openStream} from '../../../public/transport-stream.js';
import {open as openSocket} from '../../../public/transport-websocket.js';
import {FakeEvents, FakeSocket, FakeWebSocket} from '../lib/fakesocket.js';

for (const [name, open] of Object.entries({WebSocket: openSocket, 'event stream': openStream})) {
  test(`${name}: no listener is left when it has ended`, async () => {
    FakeSocket.reset();
    const controller = new AbortController();
    for (let round = 0; round < 3; round++) {
      /** @type {string[]} */
      const ends = [];
      const stream = await open(/** @type {any} */ ({
        url: 'https://inbox.example/inbox', name: 'ann', password: 'secret', client: 'phone', signal: controller.signal,
        WebSocket: FakeWebSocket, requests: {open: async () => new FakeEvents().response()},
        takeOver: async () => '', onMessage: () => {}, onEnd: (/** @type {string} */ end) => ends.push(end),
      }));
      assert.equal(getEventListeners(controller.signal, 'abort').length, 1);
      stream.close();
      assert.deepEqual(ends, ['lost']);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    }
  });
}

test('event stream: no listener is left when it cannot be opened', async () => {
  const {signal} = new AbortController();
  await assert.rejects(openStream(/** @type {any} */ ({signal, takeOver: async () => '', requests: {open: async () => new Response(null, {status: 204})}})));
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});
