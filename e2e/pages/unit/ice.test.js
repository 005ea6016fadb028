/** Tests ice.js: the list of servers, or an empty list on failure. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {iceServers} from '../../../public/ice.js';

test('the request is authenticated and returns the servers', async t => {
  const servers = [{urls: ['turn:example.org'], username: 'u', credential: 'c'}];
  const fetchMock = t.mock.method(globalThis, 'fetch', async () => Response.json({iceServers: servers}));
  assert.deepEqual(await iceServers('https://example.org/ice', 'Basic x'), servers);
  const [, options] = fetchMock.mock.calls[0].arguments;
  assert.deepEqual([options?.cache, options?.credentials, options?.headers], ['no-store', 'omit', {Authorization: 'Basic x'}]);
});

for (const [name, answer] of /** @type {[string, () => Promise<Response>][]} */ ([
  ['no response', () => Promise.reject(new TypeError('down'))],
  ['an error status', async () => Response.json({iceServers: [{urls: 'stun:x'}]}, {status: 401})],
  ['invalid JSON', async () => new Response('<p>')],
  ['a missing list', async () => Response.json({})],
])) {
  test(`${name}: an empty list`, async t => {
    t.mock.method(globalThis, 'fetch', answer);
    assert.deepEqual(await iceServers('https://example.org/ice', ''), []);
  });
}

test('the request times out', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  t.mock.method(globalThis, 'fetch', (/** @type {string} */ _url, /** @type {RequestInit} */ {signal}) =>
    new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))));
  const servers = iceServers('https://example.org/ice', '');
  t.mock.timers.tick(5_000);
  assert.deepEqual(await servers, []);
});
