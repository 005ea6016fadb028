/** Tests which transports streams.js tries after failures. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Streams} from '../../../public/streams.js';
import {broken} from '../../../public/transports.js';

/** A WebSocket that the server never answers. */
class RefusedSocket extends EventTarget {
  readyState = 3;
  close() {}
  constructor() {
    super();
    setTimeout(() => this.dispatchEvent(new Event('close')), 0);
  }
}

function newStreams() {
  broken.clear();
  const streams = new Streams(/** @type {any} */ ({
    names: ['websocket'], broken,
    connection: {url: 'https://example.org/inbox', name: 'ann', password: 'x', client: 'c', WebSocket: RefusedSocket, requests: null},
    isConnected: () => true,
  }));
  return streams;
}

test('a transport that fails is not tried again soon', async () => {
  const streams = newStreams();
  await streams.upgrade(new AbortController().signal);
  assert.deepEqual(streams.due, []);
  assert.deepEqual([...broken.values()].map(({failures}) => failures), [1]);
});

test('a transport that fails shortly before the server is lost is tried again', async () => {
  const streams = newStreams();
  await streams.upgrade(new AbortController().signal);
  streams.forgive();
  assert.deepEqual(streams.due, ['websocket']);

  broken.set('websocket https://example.org/inbox', {until: 0, failures: 2}); // known from before
  await streams.upgrade(new AbortController().signal);
  streams.forgive();
  assert.deepEqual([...broken.values()], [{until: 0, failures: 2}]);
});

test('a transport that failed long before the server is lost stays broken', async t => {
  t.mock.timers.enable({apis: ['Date'], now: Date.now()});
  const streams = newStreams();
  await streams.upgrade(new AbortController().signal);
  t.mock.timers.tick(20_000);
  streams.forgive();
  assert.deepEqual(streams.due, []);
});
