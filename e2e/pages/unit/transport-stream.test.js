/** Tests inbox.js over an event stream whose server is scripted, with a mock clock. */

import assert from 'node:assert/strict';
import {beforeEach, test} from 'node:test';
import {broken} from '../../../public/transports.js';
import {FakeEvents, FakeServer, FakeSocket, FakeWebSocket, tick} from '../lib/fakesocket.js';
import {mockDocument, mockNetworkEvents, openInbox} from '../lib/inboxes.js';

// So that the mock clock does not wait for files.

beforeEach(() => {
  FakeSocket.reset();
  broken.clear();
});

/** @param {number} status @param {string} code @param {Record<string, string>} [headers] */
const problem = (status, code, headers = {}) => new Response(
  JSON.stringify({type: `urn:inbox:problem:${code}`, title: 't', status}), {status, headers: {'Content-Type': 'application/problem+json', ...headers}});

/**
 * Starts an inbox that can use an event stream, and records its events.
 * @param {import('node:test').TestContext} t
 * @param {Partial<import('../../../public/inbox.js').Options & import('../../../public/stream-inbox.js').StreamOptions>} [options]
 */
function open(t, options = {}) {
  t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date']});
  const server = new FakeServer();
  /** The streams that the server has opened. @type {FakeEvents[]} */
  const streams = [];
  server.stream = () => {
    streams.push(new FakeEvents());
    return streams[streams.length - 1];
  };
  const inbox = openInbox('https://inbox.example/inbox', {client: 'phone', fetch: server.fetch, transports: ['websocket', 'stream'], ...options});
  /** @type {any[]} */
  const messages = [];
  /** @type {string[]} */
  const events = [];
  inbox.addEventListener('message', event => messages.push(/** @type {CustomEvent} */ (event).detail));
  for (const name of ['status', 'connection', 'transport', 'superseded']) {
    inbox.addEventListener(name, event => events.push(/** @type {CustomEvent} */ (event).detail));
  }
  inbox.addEventListener('error', event => events.push(/** @type {CustomEvent} */ (event).detail.code));
  inbox.start();
  return {inbox, server, streams, messages, events};
}

/** @param {import('node:test').TestContext} t @param {Parameters<typeof open>[1]} [options] */
async function connect(t, options) {
  const opened = open(t, options);
  await tick(t, 1_100);
  assert.equal(opened.inbox.transport, 'stream');
  opened.events.length = 0;
  return {...opened, stream: opened.streams[0]};
}

test('an event stream takes the place of polls', async t => {
  const {server, events, streams} = open(t);
  await tick(t, 1_100);
  assert.deepEqual(server.queries('GET'),
    ['after=&client=phone&wait=0', 'after=&client=phone&resume=1&wait=25', 'after=&client=phone&resume=1']);
  assert.equal(server.requests[1].signal?.aborted, true, 'the poll has ended');
  for (let time = 0; time < 10; time++) {
    await tick(t, 25_000);
    streams[0].send(':\n\n');
  }
  assert.deepEqual([server.requests.length, events], [3, ['retrying', 'open', 'stream']]);
});

test('events that arrive in pieces, with lines of any kind', async t => {
  const {messages, stream} = await connect(t);
  stream.message('11', {from: 'Zoë %', type: 'json', body: '{"a":"b\\nc"}'});
  stream.message('12', {type: 'bytes', body64: btoa('\0\xff')});
  stream.message('13', {type: 'text', body64: btoa('a\xff')});
  const text = `: comment\r\nid: 14\r\nevent: message\r\ndata: ${JSON.stringify({from: 'bob', type: 'sdp', body: 'v=0é'})}\r\n\r\n`;
  for (const char of text) {
    stream.send(char);
    await tick(t, 10);
  }
  stream.send('event: other\ndata: {}\n\nid: 15\nevent: message\ndata: {"from":"bob",\ndata: "type":"text","body":"x"}\n\n');
  await tick(t, 20);
  const data = messages.map(message => (message.data instanceof ArrayBuffer ? Buffer.from(message.data).toString('latin1') : message.data));
  assert.deepEqual(data, [{a: 'b\nc'}, '\0\xff', 'a\uFFFD', 'v=0é', 'x']);
  assert.deepEqual(messages.map(({from, id}) => [from, id]), [['Zoë %', '11'], ['bob', '12'], ['bob', '13'], ['bob', '14'], ['bob', '15']]);
});

test('messages are acknowledged by a request that is no receiver, for several at a time', async t => {
  const {server, stream} = await connect(t);
  stream.message('1', {type: 'text', body: 'a'});
  stream.message('2', {type: 'text', body: 'b'});
  await tick(t, 40);
  assert.deepEqual(server.queries('POST', '/inbox/ack'), []);
  await tick(t, 40);
  for (let id = 3; id < 11; id++) stream.message(String(id), {type: 'text', body: 'c'});
  await tick(t, 20);
  assert.deepEqual(server.queries('POST', '/inbox/ack'), ['upTo=2', 'upTo=10']);
});

test('an acknowledgement that fails is sent again', async t => {
  const {server, stream} = await connect(t);
  let failures = 2;
  server.ack = () => (failures-- > 0 ? problem(503, 'store-unavailable', {'Retry-After': '3'}) : new Response(null, {status: 204}));
  stream.message('1', {type: 'text', body: 'a'});
  await tick(t, 2_900);
  stream.message('2', {type: 'text', body: 'a'});
  await tick(t, 10_000);
  assert.deepEqual(server.queries('POST', '/inbox/ack'), ['upTo=1', 'upTo=2', 'upTo=2']);
});

test('messages are sent with POST', async t => {
  const {inbox, server} = await connect(t);
  await inbox.send('bob', 'x');
  assert.deepEqual(server.queries('POST'), ['to=bob']);
});

test('after a lost stream the next one continues where it ended, and repeated messages are dropped', async t => {
  const {server, messages, streams, stream, events} = await connect(t);
  stream.message('5', {type: 'text', body: 'a'});
  await tick(t, 10);
  stream.drop();
  await tick(t, 2_000);
  assert.deepEqual(server.queries('GET').slice(-3),
    ['after=5&client=phone&resume=1&wait=0', 'after=5&client=phone&resume=1&wait=25', 'after=5&client=phone&resume=1']);
  streams[1].message('5', {type: 'text', body: 'a'});
  streams[1].message('6', {type: 'text', body: 'b'});
  await tick(t, 100);
  assert.deepEqual(messages.map(({id}) => id), ['5', '6']);
  assert.deepEqual(events, ['poll', 'lost', 'restored', 'stream']);
});

for (const [reason, want] of /** @type {[string, string[]][]} */ ([
  ['superseded', ['poll', 'superseded', 'replaced']], ['stopping', ['poll', 'lost', 'retrying', 'stopping']], ['claim-ended', ['poll']],
])) {
  test(`the event end with ${reason}`, async t => {
    const {events, stream} = await connect(t);
    await tick(t, 2_500);
    stream.send(`event: end\ndata: ${reason}\n\n`);
    stream.end();
    await tick(t, 400);
    assert.deepEqual(events, want);
  });
}

test('a proxy that collects the response: polls continue, and the stream is tried again later', async t => {
  const {inbox, server, streams, messages, events} = open(t);
  const {stream} = server;
  server.stream = () => new FakeEvents('');
  await tick(t, 5_000);
  assert.deepEqual([inbox.transport, server.queries('GET').length], ['poll', 3]);
  server.poll = query => (query.get('after') === '' ? new Response('x', {headers: {'X-Message-Id': '3', 'X-From': 'bob'}}) : null);
  await tick(t, 1_500);
  assert.deepEqual([messages.length, server.queries('GET')[3]], [1, 'after=&client=phone&resume=1&wait=0']);
  server.poll = new FakeServer().poll;
  await tick(t, 30_000);
  assert.equal(server.queries('GET').filter(query => !query.includes('wait')).length, 1, 'it is not tried again at once');
  server.stream = stream;
  await tick(t, 70_000);
  assert.equal(inbox.transport, 'stream');
  assert.equal(streams.length, 1);
  assert.deepEqual(events.slice(0, 2), ['retrying', 'open']);
});

for (const [name, respond] of /** @type {[string, () => Response | Promise<Response>][]} */ ([
  ['a page', () => new Response('<title>Sign in</title>', {headers: {'Content-Type': 'text/html'}})],
  ['a message of a server without streams', () => new Response('x', {headers: {'X-Message-Id': '1', 'X-From': 'bob'}})],
  ['204', () => new Response(null, {status: 204})],
  ['502', () => new Response('<h1>Bad Gateway</h1>', {status: 502})],
  ['a problem of another program', () => new Response('{"type":"about:blank"}', {status: 403, headers: {'Content-Type': 'application/problem+json'}})],
  ['an empty stream', () => new Response('', {headers: {'Content-Type': 'text/event-stream'}})],
  ['a lost connection', () => Promise.reject(new TypeError('down'))],
])) {
  test(`${name} in place of a stream: polls continue`, async t => {
    const {inbox, server, events} = open(t);
    server.stream = respond;
    await tick(t, 30_000);
    assert.deepEqual([inbox.transport, inbox.status, events], ['poll', 'open', ['retrying', 'open']]);
    assert.equal(server.queries('GET').filter(query => !query.includes('wait')).length, 1);
  });
}

test('a refused stream: another client has the mailbox', async t => {
  const {inbox, server, events} = open(t);
  server.stream = () => problem(409, 'other-receiver');
  await tick(t, 1_200);
  assert.deepEqual([inbox.status, events], ['superseded', ['retrying', 'open', 'superseded', 'other-receiver']]);
});

test('a refused stream: the server names a time', async t => {
  const {inbox, server} = open(t);
  const {stream} = server;
  server.stream = () => problem(429, 'rate-limited', {'Retry-After': '5'});
  await tick(t, 5_500);
  server.stream = stream;
  assert.equal(inbox.transport, 'poll');
  await tick(t, 25_000);
  assert.equal(inbox.transport, 'stream');
});

test('a stream without heartbeats is given up for some time', async t => {
  const {inbox, streams} = await connect(t);
  await tick(t, 54_000);
  assert.equal(inbox.transport, 'stream');
  await tick(t, 5_000);
  assert.equal(inbox.transport, 'poll');
  assert.ok(streams[0].cancelled);
  await tick(t, 30_000);
  assert.equal(streams.length, 1);
});

test('a proxy that ends each stream soon: polls', async t => {
  const {inbox, streams} = open(t);
  for (let time = 0; time < 3; time++) {
    await tick(t, 3_000);
    assert.equal(inbox.transport, 'stream');
    streams[time].end();
  }
  await tick(t, 20_000);
  assert.deepEqual([inbox.transport, streams.length], ['poll', 3]);
});

test('a page that becomes visible, and a device that is online again, open the stream again', async t => {
  const window = mockNetworkEvents(t);
  const document = mockDocument(t);
  const {server, events, streams} = await connect(t);
  await tick(t, 4_000);
  document.dispatchEvent(new Event('visibilitychange'));
  await tick(t, 2_000);
  window.dispatchEvent(new Event('online'));
  await tick(t, 1_200);
  assert.deepEqual([streams.length, events], [3, ['poll', 'stream', 'poll', 'stream']]);
  assert.equal(server.queries('GET').filter(query => query === 'after=&client=phone&resume=1&wait=0').length, 2);
});

test('a WebSocket is preferred, and takes the place of a stream when it works again', async t => {
  FakeSocket.connect = socket => socket.drop();
  const {inbox, streams, messages, events} = open(t, {WebSocket: FakeWebSocket});
  await tick(t, 1_200);
  assert.deepEqual([inbox.transport, FakeSocket.all.length], ['stream', 1]);
  streams[0].message('4', {type: 'text', body: 'x'});
  FakeSocket.reset();
  for (let time = 0; time < 5; time++) {
    await tick(t, 20_000);
    streams[0].send(':\n\n');
  }
  assert.equal(inbox.transport, 'websocket');
  assert.deepEqual(FakeSocket.last.sent('hello'), ['hello me secret after=4 client=phone resume=1']);
  assert.ok(streams[0].cancelled, 'the stream has ended');
  FakeSocket.last.receive('msg 5 bob text y');
  await tick(t, 20);
  assert.deepEqual(messages.map(({data}) => data), ['x', 'y']);
  assert.deepEqual(events, ['retrying', 'open', 'stream', 'websocket']);
});

test('an inbox that is closed ends its stream', async t => {
  const {inbox, server, stream, events} = await connect(t);
  inbox.close();
  await tick(t, 60_000);
  assert.deepEqual([stream.cancelled, events, server.requests.length], [true, ['closed'], 3]);
});
