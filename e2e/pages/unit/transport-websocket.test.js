/** Tests inbox.js over a WebSocket whose server is scripted, with a mock clock. */

import assert from 'node:assert/strict';
import {beforeEach, test} from 'node:test';
import {broken} from '../../../public/transports.js';
import {FakeServer, FakeSocket, FakeWebSocket, tick} from '../lib/fakesocket.js';
import {mockDocument, mockNetworkEvents, openInbox} from '../lib/inboxes.js';


beforeEach(() => {
  FakeSocket.reset();
  broken.clear();
});

/**
 * Opens an inbox that can use a WebSocket, and records its events.
 * @param {import('node:test').TestContext} t
 * @param {Partial<import('../../../public/inbox.js').Options & import('../../../public/stream-inbox.js').StreamOptions>} [options]
 */
function open(t, options = {}) {
  t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date']});
  const server = new FakeServer();
  const inbox = openInbox('https://inbox.example/inbox', {
    name: 'Zoë', password: 'a b', client: 'phone', fetch: server.fetch, WebSocket: FakeWebSocket, transports: ['websocket'], ...options,
  });
  /** @type {any[]} */
  const messages = [];
  /** @type {string[]} */
  const events = [];
  inbox.addEventListener('message', event => messages.push(/** @type {CustomEvent} */ (event).detail));
  for (const name of ['status', 'connection', 'transport', 'superseded']) {
    inbox.addEventListener(name, event => events.push(/** @type {CustomEvent} */ (event).detail));
  }
  inbox.addEventListener('error', event => events.push(/** @type {CustomEvent} */ (event).detail.code));
  return {inbox, server, messages, events};
}

/** Opens an inbox, and waits until its WebSocket is open. @type {typeof open} */
function openSocket(t, options) {
  const opened = open(t, options);
  opened.inbox.start();
  return opened;
}

/** @param {import('node:test').TestContext} t @param {Parameters<typeof open>[1]} [options] */
async function connect(t, options) {
  const opened = openSocket(t, options);
  await tick(t, 1_100);
  assert.equal(opened.inbox.transport, 'websocket');
  opened.events.length = 0;
  return {...opened, socket: FakeSocket.last};
}

test('polls receive until the WebSocket is open, which then takes their place', async t => {
  const {server, events} = openSocket(t);
  await tick(t, 900);
  assert.deepEqual(server.queries('GET'), ['after=&client=phone&wait=0', 'after=&client=phone&resume=1&wait=25']);
  assert.equal(FakeSocket.all.length, 0, 'the page loads first');
  await tick(t, 200);
  const {url, protocol, frames} = FakeSocket.last;
  assert.deepEqual([url, protocol, frames], ['wss://inbox.example/inbox', 'inbox.1', ['hello Zo%C3%AB a%20b after= client=phone resume=1']]);
  assert.equal(server.requests.at(-1)?.signal?.aborted, true, 'the poll has ended');
  await tick(t, 60_000);
  assert.equal(server.requests.length, 2, 'requests');
  assert.deepEqual(events, ['retrying', 'open', 'websocket']);
});

test('messages of all types, in text and binary frames', async t => {
  const {messages, socket} = await connect(t);
  const binary = (/** @type {string} */ text) => new TextEncoder().encode(text).buffer;
  socket.receive('msg 11 Zo%C3%AB%20%25 json {"a": "b c"}');
  socket.receive('msg 12 bob text ');
  socket.receive('msg 13 bob sdp v=0 x');
  socket.receive('msg 14 bob frag a=x');
  socket.receive(binary('msg 15 bob bytes \0 1 2'));
  socket.receive(binary('msg 16 bob text a\xff'));
  await tick(t, 10);
  const data = messages.map(message => (message.data instanceof ArrayBuffer ? Buffer.from(message.data).toString() : message.data));
  assert.deepEqual(data, [{a: 'b c'}, '', 'v=0 x', 'a=x', '\0 1 2', 'aÿ']);
  assert.deepEqual(messages.slice(0, 2).map(({from, id, type}) => [from, id, type]), [['Zoë %', '11', 'application/json'], ['bob', '12', 'text/plain']]);
});

test('messages are acknowledged 50 ms after they were handled, or in eights', async t => {
  const {socket} = await connect(t);
  socket.receive('msg 1 bob text a');
  socket.receive('msg 2 bob text b');
  await tick(t, 40);
  assert.deepEqual(socket.sent('ack'), []);
  await tick(t, 30);
  assert.deepEqual(socket.sent('ack'), ['ack 2']);
  for (let id = 3; id < 11; id++) socket.receive(`msg ${id} bob text c`);
  await tick(t, 10);
  assert.deepEqual(socket.sent('ack'), ['ack 2', 'ack 10']);
});

test('a repeated message is dropped, and acknowledged', async t => {
  const {messages, socket} = await connect(t);
  for (let time = 0; time < 3; time++) socket.receive('msg 7 bob text x');
  await tick(t, 100);
  assert.equal(messages.length, 1);
  assert.deepEqual(socket.sent('ack'), ['ack 7']);
});

test('a message that cannot be decoded is skipped and acknowledged', async t => {
  const {messages, events, socket} = await connect(t);
  socket.receive('msg 7 bob json {');
  socket.receive('msg 8 bob text x');
  await tick(t, 100);
  assert.deepEqual([events, messages.length, socket.sent('ack')], [['unreadable'], 1, ['ack 8']]);
});

test('messages are handled one after the other, also if the sealer is slow', async t => {
  const sealer = {
    seal: async (/** @type {any} */ data) => data,
    open: (/** @type {any} */ data) => new Promise(resolve => setTimeout(() => resolve(data), data === 'a' ? 200 : 0)),
  };
  const {messages, socket} = await connect(t, {sealer});
  socket.receive('msg 1 bob text a');
  socket.receive('msg 2 bob text b');
  await tick(t, 150);
  assert.deepEqual([messages.length, socket.sent('ack')], [0, []]);
  await tick(t, 250);
  assert.deepEqual([messages.map(({data}) => data), socket.sent('ack')], [['a', 'b'], ['ack 2']]);
});

test('messages are sent over the WebSocket, and ok covers earlier ones', async t => {
  const {inbox, server, socket} = await connect(t);
  const sent = [
    inbox.send('bob & cé', {a: 1}), inbox.send('carol', 'hé', {wait: 9}), inbox.send('dave', new Uint8Array([32, 0, 255])),
    inbox.send('erin', new Blob(['x'])),
  ];
  await tick(t, 20);
  assert.deepEqual(socket.frames.slice(1, 3), ['send 1 bob%20%26%20c%C3%A9 json {"a":1}', 'send 2 carol?wait=9 text hé']);
  assert.deepEqual(socket.frames.slice(3).map(frame => Buffer.from(/** @type {Uint8Array} */ (frame)).toString('latin1')),
    ['send 3 dave bytes  \0\xff', 'send 4 erin bytes x']);
  socket.receive('ok 4');
  await Promise.all([sent[0], sent[2], sent[3]]);
  let isStored = false;
  void sent[1].then(() => (isStored = true));
  await tick(t, 20);
  assert.ok(!isStored, 'a send with wait has an answer of its own');
  socket.receive('ok 2');
  await sent[1];
  assert.deepEqual(server.queries('POST'), []);
});

test('a message is sent when the one before it to the same recipient is stored', async t => {
  const {inbox, socket} = await connect(t);
  const sent = [inbox.send('bob', 'a'), inbox.send('bob', 'b')];
  await tick(t, 50);
  assert.deepEqual(socket.sent('send'), ['send 1 bob text a']);
  socket.receive('ok 1');
  await tick(t, 50);
  socket.receive('ok 2');
  await Promise.all(sent);
});

test('a refused message is an error with the problem of the server', async t => {
  const {inbox, socket, events} = await connect(t);
  const sent = assert.rejects(inbox.send('bob', 'x'), {code: 'no-inbox', status: 404, message: 'who?'});
  await tick(t, 20);
  socket.receive('fail 1 {"type":"urn:inbox:problem:no-inbox","title":"t","detail":"who?","status":404}');
  await sent;
  assert.deepEqual([events, inbox.transport], [['no-inbox'], 'websocket']);
});

test('a message is sent again after the time that the server asks for', async t => {
  const {inbox, socket} = await connect(t);
  const sent = inbox.send('bob', 'x');
  await tick(t, 20);
  socket.receive('fail 1 {"type":"urn:inbox:problem:inbox-full","title":"t","status":503,"retryAfter":3}');
  await tick(t, 2_900);
  assert.equal(socket.sent('send').length, 1);
  await tick(t, 1_000);
  assert.deepEqual(socket.sent('send'), ['send 1 bob text x', 'send 2 bob text x']);
  socket.receive('ok 2');
  await sent;
});

test('a message that waits for its recipient is sent again until the time is over', async t => {
  const {inbox, socket} = await connect(t);
  const sent = assert.rejects(inbox.send('bob', 'x', {wait: 40}), {code: 'no-inbox'});
  const missing = (/** @type {number} */ ref) => socket.receive(`fail ${ref} {"type":"urn:inbox:problem:no-inbox","title":"t","status":404}`);
  await tick(t, 25_000);
  missing(1);
  await tick(t, 1_100);
  assert.deepEqual(socket.sent('send'), ['send 1 bob?wait=25 text x', 'send 2 bob?wait=14 text x']);
  await tick(t, 14_000);
  missing(2);
  await sent;
});

test('a message that is too large for a frame is sent with a POST', async t => {
  FakeSocket.greeting = () => 'welcome 1 10 64 25';
  const {inbox, server, socket} = await connect(t);
  await Promise.all([inbox.send('bob', 'four'), inbox.send('carol', new Uint8Array(11)), inbox.send('dave', new Blob(['12345678901']))]);
  assert.equal(server.queries('POST').length, 3);
  const small = inbox.send('bob', 'abc');
  await tick(t, 20);
  socket.receive('ok 1');
  await small;
});

test('messages that wait for more than sixteen recipients are sent with POST', async t => {
  const {inbox, server, socket} = await connect(t);
  server.post = () => null;
  for (let number = 0; number < 18; number++) inbox.send(`bob ${number}`, 'x', {wait: 60}).catch(() => {});
  await tick(t, 50);
  assert.deepEqual([socket.sent('send').length, server.queries('POST').length], [16, 2]);
  const sent = inbox.send('carol', 'x');
  await tick(t, 20);
  socket.receive('ok 17');
  await sent;
});

test('a message without an answer is sent again when the connection is lost, after a poll', async t => {
  const {inbox, server, socket, events} = await connect(t);
  const before = server.requests.length;
  const sent = inbox.send('bob', 'x');
  await tick(t, 20);
  socket.drop();
  await tick(t, 600);
  await sent;
  const [first, ...others] = server.requests.slice(before).map(({method, query}) => `${method} ${query}`);
  assert.equal(first, 'GET after=&client=phone&resume=1&wait=0');
  assert.deepEqual(others.sort(), ['GET after=&client=phone&resume=1&wait=25', 'POST to=bob']);
  assert.deepEqual(events, ['poll', 'lost', 'restored']);
});

test('a message without an answer in time ends the connection, and is sent again', async t => {
  const {inbox, server} = await connect(t);
  const sent = inbox.send('bob', 'x', {wait: 5});
  await tick(t, 14_900);
  assert.equal(inbox.transport, 'websocket');
  await tick(t, 1_000);
  await sent;
  assert.equal(server.queries('POST').length, 1);
});

test('after a lost connection the next one continues where it ended', async t => {
  const {server, messages, socket, events} = await connect(t);
  socket.receive('msg 5 bob text a');
  await tick(t, 10);
  socket.drop();
  await tick(t, 2_000);
  assert.equal(server.queries('GET').at(-2), 'after=5&client=phone&resume=1&wait=0');
  const next = FakeSocket.last;
  assert.deepEqual(next.sent('hello'), ['hello Zo%C3%AB a%20b after=5 client=phone resume=1']);
  next.receive('msg 6 bob text b');
  await tick(t, 100);
  assert.deepEqual(messages.map(({id}) => id), ['5', '6']);
  assert.deepEqual(events, ['poll', 'lost', 'restored', 'websocket']);
});

test('the end of a connection that was superseded', async t => {
  const {inbox, server, socket, events} = await connect(t);
  await tick(t, 2_500);
  const before = server.requests.length;
  const pending = assert.rejects(inbox.send('bob', 'x'), {code: 'superseded'});
  await tick(t, 20);
  socket.receive('end superseded');
  await pending;
  await tick(t, 10_000);
  assert.deepEqual([inbox.status, events, server.requests.length - before], ['superseded', ['poll', 'superseded', 'replaced'], 0]);
  await assert.rejects(inbox.send('bob', 'x'), {code: 'superseded'});
  inbox.start();
  await tick(t, 1_200);
  assert.equal(server.requests[before].query, 'after=&client=phone&wait=0', 'start takes the mailbox over');
  assert.equal(inbox.transport, 'websocket');
});

test('the end of a connection because the server stops', async t => {
  const {inbox, server, socket, events} = await connect(t);
  server.poll = () => null;
  const before = server.requests.length;
  socket.receive('end stopping');
  await tick(t, 900);
  assert.equal(server.requests.length, before, 'the client waits for the server to start');
  assert.deepEqual(events, ['poll', 'lost', 'retrying', 'stopping']);
  await tick(t, 1_000);
  assert.equal(server.requests.length, before + 1);
  assert.equal(inbox.status, 'retrying');
});

test('a claim that ended is renewed at once', async t => {
  const {server, socket, events} = await connect(t);
  const before = server.requests.length;
  await tick(t, 1_000);
  socket.receive('end claim-ended');
  await tick(t, 20);
  assert.equal(server.requests[before].query, 'after=&client=phone&resume=1&wait=0');
  assert.deepEqual(events, ['poll']);
});

for (const [name, connectSocket] of /** @type {[string, (socket: FakeSocket) => void][]} */ ([
  ['refuses', socket => socket.drop()],
  ['never answers', () => {}],
  ['opens and closes', socket => { socket.accept(); socket.drop(); }],
  ['swallows frames of', socket => { FakeSocket.greeting = () => null; socket.accept(); }],
])) {
  test(`a proxy that ${name} a WebSocket: polls continue, and it is tried again later`, async t => {
    FakeSocket.connect = connectSocket;
    const {inbox, server, messages, events} = openSocket(t);
    await tick(t, 17_000);
    assert.equal(inbox.transport, 'poll');
    const {poll} = server;
    server.poll = query => (query.get('after') === '' ? new Response('x', {headers: {'X-Message-Id': '3', 'X-From': 'bob'}}) : poll(query));
    await tick(t, 30_000);
    assert.equal(messages.length, 1, 'polls receive');
    assert.equal(FakeSocket.all.length, 1, 'it is not tried again at once');
    FakeSocket.reset();
    await tick(t, 60_000);
    assert.equal(inbox.transport, 'websocket');
    assert.deepEqual(events, ['retrying', 'open', 'websocket']);
    assert.match(FakeSocket.last.sent('hello')[0], /after=3 /);
  });
}

test('a WebSocket that works in one inbox only is not tried by another one of the page', async t => {
  FakeSocket.connect = socket => socket.drop();
  openSocket(t);
  await tick(t, 1_200);
  const other = openInbox('https://inbox.example/inbox', {fetch: new FakeServer().fetch, WebSocket: FakeWebSocket, transports: ['websocket']});
  other.start();
  await tick(t, 5_000);
  assert.equal(FakeSocket.all.length, 1);
});

test('a WebSocket that a proxy refused is tried again when the device is online again', async t => {
  const page = mockNetworkEvents(t);
  FakeSocket.connect = socket => socket.drop();
  const {inbox} = openSocket(t);
  await tick(t, 5_000);
  FakeSocket.reset();
  page.dispatchEvent(new Event('online'));
  await tick(t, 2_500);
  assert.equal(inbox.transport, 'websocket');
});

test('a WebSocket that ends soon each time is given up', async t => {
  const {inbox} = openSocket(t);
  for (let time = 0; time < 3; time++) {
    await tick(t, 3_000);
    assert.equal(inbox.transport, 'websocket');
    FakeSocket.last.drop();
  }
  await tick(t, 30_000);
  assert.deepEqual([inbox.transport, FakeSocket.all.length], ['poll', 3]);
});

test('a refused hello: another client has the mailbox', async t => {
  FakeSocket.greeting = () => 'fail 0 {"type":"urn:inbox:problem:other-receiver","title":"t","status":409}';
  const {inbox, events} = openSocket(t);
  await tick(t, 1_200);
  assert.deepEqual([inbox.status, events], ['superseded', ['retrying', 'open', 'superseded', 'other-receiver']]);
});

test('a refused hello: the server names a time', async t => {
  FakeSocket.greeting = () => 'fail 0 {"type":"urn:inbox:problem:rate-limited","title":"t","status":429,"retryAfter":20}';
  const {inbox, server} = openSocket(t);
  server.poll = () => new Promise(resolve => setTimeout(() => resolve(new Response(null, {status: 204})), 1_000));
  await tick(t, 20_000);
  assert.equal(FakeSocket.all.length, 1);
  FakeSocket.reset();
  await tick(t, 10_000);
  assert.equal(inbox.transport, 'websocket');
});

test('a poll that has just been sent is not aborted: it could arrive after the WebSocket', async t => {
  const {inbox, server, messages} = openSocket(t);
  let respond = (/** @type {Response} */ _response) => {};
  server.poll = query => (query.get('wait') === '0' ? new Response(null, {status: 204}) : new Promise(resolve => (respond = resolve)));
  await tick(t, 950);
  server.poll = () => null; // of the next poll, which is young when the WebSocket is open
  respond(new Response('x', {headers: {'X-Message-Id': '3', 'X-From': 'bob'}}));
  await tick(t, 850);
  assert.deepEqual([FakeSocket.last.readyState, FakeSocket.last.frames.length, server.requests.at(-1)?.signal?.aborted], [1, 0, false]);
  await tick(t, 200);
  assert.deepEqual([inbox.transport, server.requests.at(-1)?.signal?.aborted, messages.length], ['websocket', true, 1]);
  assert.match(FakeSocket.last.sent('hello')[0], /after=3 /);
});

for (const [name, status, want] of /** @type {[string, number, string[]][]} */ ([
  ['of this client, which came late', 204, ['poll', 'websocket']], ['of another client', 409, ['poll', 'superseded', 'replaced']],
])) {
  test(`a WebSocket that is superseded at once by a request ${name}`, async t => {
    const {server, socket, events} = await connect(t);
    const before = server.requests.length;
    const {poll} = server;
    server.poll = query => (status === 204 ? poll(query) : new Response('{"type":"urn:inbox:problem:other-receiver","title":"t"}', {status}));
    socket.receive('end superseded');
    await tick(t, 2_500);
    assert.equal(server.requests[before].query, 'after=&client=phone&resume=1&wait=0');
    assert.deepEqual(events, want);
  });
}

test('a connection without frames is checked, and replaced if the server does not answer', async t => {
  const {inbox, server, socket} = await connect(t);
  await tick(t, 150_000);
  assert.equal(socket.sent('ping').length, 2, 'an answer counts as a frame');
  socket.receive('msg 1 bob text x');
  assert.equal(inbox.transport, 'websocket');
  FakeSocket.answersPings = false;
  const before = server.requests.length;
  await tick(t, 120_000);
  assert.equal(server.requests[before].query, 'after=1&client=phone&resume=1&wait=0');
});

test('online: the connection is replaced at once', async t => {
  const page = mockNetworkEvents(t);
  const {server, socket, events} = await connect(t);
  await tick(t, 1_000);
  const before = server.requests.length;
  page.dispatchEvent(new Event('online'));
  await tick(t, 20);
  assert.equal(server.requests[before].query, 'after=&client=phone&resume=1&wait=0');
  assert.ok(socket.closed);
  assert.deepEqual(events, ['poll']);
  await tick(t, 1_200);
  assert.deepEqual(events, ['poll', 'websocket']);
});

test('offline: the connection is lost, and comes back online', async t => {
  const page = mockNetworkEvents(t);
  const {inbox, server, events} = await connect(t);
  const {poll} = server;
  server.poll = () => Promise.reject(new TypeError('down'));
  page.dispatchEvent(new Event('offline'));
  await tick(t, 100);
  assert.deepEqual(events, ['poll', 'lost', 'retrying', 'network']);
  server.poll = poll;
  page.dispatchEvent(new Event('online'));
  await tick(t, 1_200);
  assert.deepEqual([inbox.status, inbox.transport], ['open', 'websocket']);
});

test('a page that becomes visible checks its connection', async t => {
  const document = mockDocument(t);
  const {inbox, server, socket} = await connect(t);
  const before = server.requests.length;
  await tick(t, 4_000);
  document.dispatchEvent(new Event('visibilitychange'));
  document.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual(socket.sent('ping'), ['ping']);
  await tick(t, 5_000);
  assert.equal(inbox.transport, 'websocket');
  assert.equal(server.requests.length, before);
  FakeSocket.answersPings = false;
  document.dispatchEvent(new Event('visibilitychange'));
  await tick(t, 2_100);
  assert.notEqual(inbox.transport, 'websocket');
});

test('an inbox that is closed or released closes its WebSocket', async t => {
  const {inbox, server, socket, events} = await connect(t);
  const pending = assert.rejects(inbox.send('bob', 'x'), {code: 'closed'});
  await tick(t, 20);
  inbox.sendLast('bob', {kind: 'bye'});
  inbox.release();
  await pending;
  await tick(t, 60_000);
  assert.ok(socket.closed);
  assert.deepEqual(server.requests.slice(2).map(({method, query}) => `${method} ${query}`), ['POST to=bob', 'DELETE client=phone']);
  assert.deepEqual([events, FakeSocket.all.length], [['closed'], 1]);
});

test('an inbox that is closed soon opens no WebSocket', async t => {
  const {inbox} = openSocket(t);
  await tick(t, 500);
  inbox.close();
  await tick(t, 5_000);
  assert.equal(FakeSocket.all.length, 0);
});

test('without WebSocket, and with a fetch of its own, an inbox polls', async t => {
  const {inbox} = openSocket(t, {WebSocket: undefined});
  await tick(t, 5_000);
  assert.deepEqual([inbox.transport, FakeSocket.all.length], ['poll', 0]);
});
