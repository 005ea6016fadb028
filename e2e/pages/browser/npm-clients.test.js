/** Clients of others from npm receive from the real server: ws, wscat and eventsource. No browser is needed. */

import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {fileURLToPath} from 'node:url';
import {after, afterEach, before, test} from 'node:test';
import {EventSource} from 'eventsource';
import WebSocket from 'ws';
import {StreamInbox as Inbox} from '../../../public/stream-inbox.js';
import {Server} from '../lib/server.js';

const wscat = fileURLToPath(new URL('../node_modules/wscat/bin/wscat', import.meta.url));
/** Milliseconds that a test waits for something. */
const TIMEOUT = 60_000;

/** @type {Server} */
let server;
let origin = '';
/** @type {(() => void)[]} */
let cleanups = [];

before(async () => {
  server = new Server(['-https=false']);
  await server.start();
  origin = server.origin.replace('https://localhost', 'http://127.0.0.1');
});

afterEach(() => {
  for (const cleanup of cleanups) cleanup();
  cleanups = [];
});

after(() => server?.remove());

/** @param {string} name */
const authorization = name => `Basic ${Buffer.from(`${name}:secret`).toString('base64')}`;

/** @param {string} from @param {string} to @param {string} body */
async function post(from, to, body) {
  const headers = {'Authorization': authorization(from), 'Content-Type': 'text/plain'};
  const {status} = await fetch(`${origin}/inbox?to=${to}&wait=20`, {method: 'POST', headers, body});
  assert.equal(status, 200);
}

/** Opens a WebSocket, and collects its text frames. @param {WebSocket.ClientOptions} [options] */
async function openSocket(options) {
  const socket = new WebSocket(`${origin.replace('http', 'ws')}/inbox`, 'inbox.1', options);
  cleanups.push(() => socket.terminate());
  /** @type {{data: Buffer, isBinary: boolean}[]} */
  const frames = [];
  socket.on('message', (data, isBinary) => frames.push({data: /** @type {Buffer} */ (data), isBinary}));
  const closed = new Promise(resolve => socket.once('close', resolve));
  await once(socket, 'open');
  /** Waits for the frame with this number, from 0. @param {number} number */
  const frame = async number => {
    await until(`frame ${number}; got ${frames.map(({data}) => data)}`, () => frames.length > number);
    return String(frames[number].data);
  };
  return {socket, frames, frame, closed};
}

/** @param {string} what @param {() => boolean} isReached */
async function until(what, isReached) {
  for (const deadline = Date.now() + TIMEOUT; !isReached();) {
    assert.ok(Date.now() < deadline, `timeout: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}

test('ws: a mailbox from hello to end', async () => {
  const {socket, frames, frame, closed} = await openSocket();
  socket.send('hello ann secret after=');
  assert.match(await frame(0), /^welcome \d+ \d+ \d+ 25$/);
  socket.send('send 1 ann text h\u00e9');
  const answers = [await frame(1), await frame(2)].sort();
  assert.match(answers[0], /^msg \d+ ann text h\u00e9$/);
  assert.equal(answers[1], 'ok 1');
  const [, id] = answers[0].split(' ');
  socket.send(Buffer.from('send 2 ann bytes \0\xff', 'latin1'));
  await frame(4);
  const [binary] = frames.slice(3).filter(({isBinary}) => isBinary);
  assert.match(binary.data.toString('latin1'), /^msg \d+ ann bytes \0\xff$/);
  socket.send('send 3 no-one json {}');
  assert.match(await frame(5), /^fail 3 \{.*no-inbox.*\}$/);
  socket.send('ping');
  assert.equal(await frame(6), 'pong');
  socket.send(`ack ${id}`);
  socket.send('ping'); // its answer follows the end of the ack
  assert.equal(await frame(7), 'pong');
  const again = await openSocket({headers: {Authorization: authorization('ann')}});
  assert.equal(await frame(8), 'end superseded');
  assert.equal(await closed, 4001);
  assert.match(await again.frame(0), /^welcome /);
  assert.match(await again.frame(1), /^msg \d+ ann bytes /, 'the message that was not acknowledged');
});

test('ws: without hello, and with a wrong password', async () => {
  const silent = await openSocket();
  silent.socket.send('ping');
  assert.equal(await silent.closed, 1008);
  const owner = await openSocket();
  owner.socket.send('hello ben secret after=');
  await owner.frame(0);
  const guest = await openSocket();
  guest.socket.send('hello ben guess after=');
  assert.match(await guest.frame(0), /^fail 0 \{.*unauthorized.*\}$/);
  assert.equal(await guest.closed, 1008);
});

test('ws: the Authorization field of another origin is refused', async () => {
  const socket = new WebSocket(`${origin.replace('http', 'ws')}/inbox`, {origin: 'https://evil.example', headers: {Authorization: authorization('eve')}});
  cleanups.push(() => socket.terminate());
  const [error] = await once(socket, 'error');
  assert.match(String(error), /403/);
});

test('wscat: a person types frames', async () => {
  const url = `${origin.replace('http', 'ws')}/inbox`;
  const child = spawn(process.execPath, [wscat, '--no-color', '-c', url, '-x', 'hello carol secret after=', '-x', 'send 1 carol text hi there', '-w', '600'],
    {stdio: ['pipe', 'pipe', 'inherit']});
  cleanups.push(() => child.kill());
  let output = '';
  child.stdout.on('data', data => (output += data));
  await until('the answers', () => /welcome \d/.test(output) && /ok 1/.test(output) && /msg \d+ carol text hi there/.test(output));
});

test('eventsource: a stream that continues after the server has restarted', async () => {
  const source = new EventSource(`${origin}/inbox`, {
    fetch: (input, init) => fetch(input, {...init, headers: {...init.headers, Authorization: authorization('dave')}}),
  });
  cleanups.push(() => source.close());
  /** @type {{id: string, text: string}[]} */
  const messages = [];
  source.addEventListener('message', ({data, lastEventId}) => messages.push({id: lastEventId, text: JSON.parse(data).body}));
  await post('erin', 'dave', 'one');
  await post('erin', 'dave', 'two');
  await until('two messages', () => messages.length === 2);
  await server.stop();
  await server.start();
  await post('erin', 'dave', 'three');
  await until('the third message', () => messages.some(({text}) => text === 'three'));
  assert.deepEqual(messages.map(({text}) => text), ['one', 'two', 'three']);
  const ack = await fetch(`${origin}/inbox/ack?upTo=${messages[2].id}`, {method: 'POST', headers: {Authorization: authorization('dave')}});
  assert.equal(ack.status, 204);
});

test('eventsource: a stream that was superseded stops', async () => {
  const open = () => new EventSource(`${origin}/inbox`, {
    fetch: (input, init) => fetch(input, {...init, headers: {...init.headers, Authorization: authorization('frank')}}),
  });
  const first = open();
  await once(/** @type {any} */ (first), 'open');
  const second = open();
  cleanups.push(() => first.close(), () => second.close());
  await until('the end of the first stream', () => first.readyState === EventSource.CLOSED);
  await post('erin', 'frank', 'hello');
  const [{data}] = /** @type {any} */ (await once(/** @type {any} */ (second), 'message'));
  assert.equal(JSON.parse(data).body, 'hello');
});

for (const [transport, options] of /** @type {const} */ ([
  ['websocket', {WebSocket: /** @type {any} */ (WebSocket), fetch}], ['stream', {}],
])) {
  test(`inbox.js in Node.js: ${transport}`, async () => {
    const [first, second] = ['grace', 'heidi'].map(name => new Inbox(`${origin}/inbox`, {name: `${name} ${transport}`, password: 'secret', ...options}));
    cleanups.push(() => first.close(), () => second.close());
    const received = once(/** @type {any} */ (first), 'message');
    await Promise.all([first.start(), second.start()]);
    await until('the transports', () => first.transport === transport && second.transport === transport);
    await second.send(`grace ${transport}`, {n: 1});
    const [{detail}] = /** @type {any} */ (await received);
    assert.deepEqual([detail.from, detail.data], [`heidi ${transport}`, {n: 1}]);
  });
}
