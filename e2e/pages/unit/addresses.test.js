/** Tests addresses.js: which links lead to the device itself, and the addresses that replace them. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {fetchOrigins, isLoopback, linkAt, parseOrigins} from '../../../public/addresses.js';

test('loopback hosts', () => {
  for (const url of ['http://localhost:3000', 'https://LOCALHOST', 'http://localhost.', 'http://a.localhost', 'http://127.0.0.1', 'http://127.1', 'http://2130706433',
    'http://127.255.0.9:1', 'http://[::1]:3000', 'http://[::ffff:127.0.0.1]', 'http://0.0.0.0:3000', 'http://[::]:3000']) {
    assert.ok(isLoopback(new URL(url).hostname), url);
  }
  for (const url of ['http://192.168.1.20:3000', 'http://localhost.example', 'http://127.0.0.1.example', 'http://mylocalhost', 'http://[fd00::1]', 'http://[::2]', 'http://128.0.0.1', 'http://laptop.local']) {
    assert.ok(!isLoopback(new URL(url).hostname), url);
  }
});

test('a link at another origin keeps everything else', () => {
  assert.equal(linkAt('https://localhost:3000/a/call.html?x=1#id.secret', 'https://192.168.1.20:3000'), 'https://192.168.1.20:3000/a/call.html?x=1#id.secret');
  assert.equal(linkAt('http://localhost//other.example/call.html#i', 'http://10.0.0.1'), 'http://10.0.0.1//other.example/call.html#i');
});

test('addresses that are not valid are left out', () => {
  const addresses = [
    {scheme: 'https', host: '192.168.1.20', port: 3000}, {scheme: 'https', host: '[2001:db8::7]', port: 3000}, {scheme: 'https', host: 'example.org', port: 443},
    {scheme: 'https', host: '192.168.1.20', port: 3000},
    {scheme: 'javascript', host: 'x', port: 1}, {scheme: 'https', host: 'localhost', port: 3000}, {scheme: 'https', host: '127.0.0.1', port: 3000},
    {scheme: 'https', host: 'a@evil.example', port: 3000}, {scheme: 'https', host: 'evil.example/', port: 3000}, {scheme: 'https', host: 'x', port: 70_000},
    {scheme: 'https', host: '', port: 3000}, {scheme: 'https', host: 'x', port: '1/'}, null, 'text', {},
  ];
  assert.deepEqual(parseOrigins({addresses}), ['https://192.168.1.20:3000', 'https://[2001:db8::7]:3000', 'https://example.org']);
  for (const response of [null, [], 'text', {}, {addresses: {}}, {addresses: 'x'}]) assert.deepEqual(parseOrigins(response), []);
});

/** @param {(Response | Error)[]} responses */
function fetchOf(responses) {
  const queue = [...responses];
  const fetch = async () => {
    const next = queue.shift();
    if (next instanceof Response) return next;
    throw next ?? new Error('no more responses');
  };
  return {queue, options: {fetch: /** @type {typeof globalThis.fetch} */ (fetch), delays: [1, 1]}};
}

test('a refusal is final, a failure is repeated', async () => {
  const addresses = {addresses: [{scheme: 'http', host: '10.0.0.1', port: 8080}]};
  const busy = () => new Response('', {status: 429});
  for (const [responses, want, left] of /** @type {[(Response | Error)[], string[] | null, number][]} */ ([
    [[Response.json(addresses)], ['http://10.0.0.1:8080'], 0],
    [[Response.json({addresses: []})], [], 0],
    [[new Response('', {status: 403}), Response.json(addresses)], null, 1],
    [[new Response('', {status: 404})], null, 0],
    [[busy(), Response.json(addresses)], ['http://10.0.0.1:8080'], 0],
    [[new TypeError('network'), new Response('', {status: 503}), Response.json(addresses)], ['http://10.0.0.1:8080'], 0],
    [[busy(), busy(), busy(), Response.json(addresses)], null, 1],
    [[new Response('<html>'), Response.json(addresses)], ['http://10.0.0.1:8080'], 0],
  ])) {
    const {queue, options} = fetchOf(responses);
    assert.deepEqual(await fetchOrigins('http://localhost/addresses', options), want);
    assert.equal(queue.length, left);
  }
});
