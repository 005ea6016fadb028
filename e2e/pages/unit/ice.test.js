/** ice.js: the servers when they can be had, else none. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {iceServers} from '../../../public/ice.js';

test('the servers come with our credentials shown', async t => {
  const servers = [{urls: ['turn:example.org'], username: 'u', credential: 'c'}];
  const fetchMock = t.mock.method(globalThis, 'fetch', async () => Response.json({iceServers: servers}));
  assert.deepEqual(await iceServers('https://example.org/ice', 'Basic x'), servers);
  const [, options] = fetchMock.mock.calls[0].arguments;
  assert.deepEqual([options?.cache, options?.credentials, options?.headers], ['no-store', 'omit', {Authorization: 'Basic x'}]);
});

for (const [name, answer] of /** @type {[string, () => Promise<Response>][]} */ ([
  ['no answer', () => Promise.reject(new TypeError('down'))],
  ['a refusal', async () => Response.json({iceServers: [{urls: 'stun:x'}]}, {status: 401})],
  ['no JSON', async () => new Response('<p>')],
  ['no list', async () => Response.json({})],
])) {
  test(`${name}: a call without servers`, async t => {
    t.mock.method(globalThis, 'fetch', answer);
    assert.deepEqual(await iceServers('https://example.org/ice', ''), []);
  });
}

test('an answer that never comes is not waited for', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  t.mock.method(globalThis, 'fetch', (/** @type {string} */ _url, /** @type {RequestInit} */ {signal}) =>
    new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))));
  const servers = iceServers('https://example.org/ice', '');
  t.mock.timers.tick(5_000);
  assert.deepEqual(await servers, []);
});
