/** Tests the core of inbox-client without its parts: channel.js, peer.js, peer-call.js and inbox.js. */

import assert from 'node:assert/strict';
import {afterEach, test} from 'node:test';
import {ChannelCall} from '../../../public/channel-call.js';
import {Channel} from '../../../public/channel.js';
import {connect, listen} from '../../../public/connect.js';
import {DataChannel} from '../../../public/data-channel.js';
import {Inbox} from '../../../public/inbox.js';
import {Peer} from '../../../public/peer.js';
import {WatchedPeer} from '../../../public/watched-peer.js';
import {FakeMailbox, link, reset, until} from '../lib/fakecalls.js';
import {channelPair} from '../lib/fakechannel.js';
import {FakeConnection} from '../lib/fakeconnection.js';

const MIB = 1 << 20;

afterEach(reset);

/** Runs pending promise callbacks, without a timer. */
async function flush() {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
}

/** Collects the messages and errors of a channel. @param {Channel} channel */
function collect(channel) {
  /** @type {any[]} */
  const messages = [];
  channel.addEventListener('message', ({data}) => messages.push(data));
  channel.addEventListener('error', ({detail}) => messages.push(detail.code));
  return messages;
}

/** @param {[typeof Channel | typeof DataChannel, typeof Channel | typeof DataChannel]} classes */
function channels([One, Two]) {
  const fakes = channelPair();
  const one = new One(/** @type {any} */ (fakes[0])), two = new Two(/** @type {any} */ (fakes[1]));
  const received = [collect(one), collect(two)];
  for (const fake of fakes) fake.open();
  return {one, two, fakes, received};
}

for (const classes of /** @type {[typeof Channel | typeof DataChannel, typeof Channel | typeof DataChannel][]} */ ([[Channel, Channel], [Channel, DataChannel], [DataChannel, Channel]])) {
  test(`a ${classes[0].name} sends messages of one frame to a ${classes[1].name}`, async () => {
    const {one, two, received: [, atTwo]} = channels(classes);
    const bytes = new Uint8Array(65_535).map((_, i) => i * 3);
    await Promise.all([one.send('text'), one.send(''), one.send({a: [1]}), one.send(null), one.send(bytes), one.send(bytes.buffer), one.send(bytes.subarray(1, 3))]);
    await until(() => atTwo.length === 7);
    assert.deepEqual(atTwo.slice(0, 4), ['text', '', {a: [1]}, null]);
    for (const got of atTwo.slice(4, 6)) assert.deepEqual(new Uint8Array(got), bytes);
    assert.deepEqual(new Uint8Array(atTwo[6]), bytes.slice(1, 3));
    await until(() => one.bufferedAmount === 0);
    for (let i = 0; i < 100; i++) await one.send(bytes); // more than a window without acknowledgements
    await until(() => atTwo.length === 107);
    await one.close();
    await until(() => two.readyState === 'closed');
  });
}

test('a message of more than one frame is refused on both sides', async () => {
  const {one, two, received: [, atTwo]} = channels([DataChannel, Channel]);
  for (const data of [new Uint8Array(65_536), 'é'.repeat(40_000), new Blob(['a file'])]) await assert.rejects(two.send(data), {code: 'too-large'});
  one.send(new Uint8Array(65_536)).catch(() => {});
  await until(() => two.readyState === 'closed' && one.readyState === 'closed');
  assert.deepEqual(atTwo, ['too-large']);
  await assert.rejects(two.send('x'), {code: 'closed'});
});

test('a channel waits for the buffer of the browser, for its listener, and for what is sent before it closes', async () => {
  const [fake, other] = channelPair();
  const one = new Channel(/** @type {any} */ (fake)), two = new Channel(/** @type {any} */ (other));
  let sent = 0;
  for (let i = 0; i < 40; i++) void one.send(new Uint8Array(60_000)).then(() => sent++);
  fake.stalled = true;
  for (const channel of [fake, other]) channel.open();
  await until(() => fake.bufferedAmount > MIB);
  await flush();
  assert.ok(fake.bufferedAmount <= MIB + 65_536 && sent < 20, `got ${fake.bufferedAmount} bytes and ${sent} sends`);
  assert.ok(one.bufferedAmount > MIB);
  const closed = one.close();
  assert.equal(one.readyState, 'closing');
  await assert.rejects(one.send('late'), {code: 'closed'});
  fake.stalled = false;
  fake.drain();
  await closed;
  const received = collect(two);
  await until(() => received.length === 40);
  assert.deepEqual([sent, one.readyState, two.readyState], [40, 'closed', 'closed']);
});

test('a message that is aborted while it waits does not arrive', async () => {
  const {one, fakes: [fake], received: [, atTwo]} = channels([Channel, Channel]);
  fake.bufferedAmount = 2 * MIB;
  const abort = new AbortController();
  const first = one.send('first', {signal: abort.signal}), second = one.send('second');
  await flush();
  abort.abort(new Error('enough'));
  await assert.rejects(first, /enough/);
  fake.drain();
  await second;
  await until(() => atTwo.length > 0);
  assert.deepEqual(atTwo, ['second']);
});

for (const [name, frame, want] of /** @type {[string, unknown, string[]][]} */ ([
  ['text', 'hello', ['malformed']], ['nothing', new Uint8Array(0), ['malformed']], ['invalid JSON', Uint8Array.of(2, 123), ['malformed']],
  ['a part', Uint8Array.of(128, 1), ['too-large']], ['an acknowledgement', Uint8Array.of(7), []], ['another connection', Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0, 0), []],
])) {
  test(`a frame that is ${name}: ${want[0] ?? 'ignored'}`, () => {
    const {one, fakes: [fake], received: [errors]} = channels([Channel, Channel]);
    fake.receive(frame);
    assert.deepEqual([errors, one.readyState], [want, want.length > 0 ? 'closed' : 'open']);
  });
}

test('a hostile peer fills neither the memory of a channel without a listener, nor its buffer', () => {
  const [, fake] = channelPair();
  const silent = new Channel(/** @type {any} */ (fake));
  fake.open();
  for (let i = 0; i < 1000; i++) fake.receive(Uint8Array.of(0));
  assert.equal(silent.readyState, 'closed');
  const {one, fakes: [stalled]} = channels([Channel, Channel]);
  stalled.bufferedAmount = 3 * MIB;
  const {length} = stalled.frames;
  for (let i = 0; i < 1000; i++) stalled.receive(Uint8Array.of(3));
  assert.deepEqual([stalled.frames.length - length, one.readyState], [0, 'open']);
});

test('a message is not taken for sent when the other side is closing the channel', async () => {
  const {one, fakes: [fake]} = channels([Channel, Channel]);
  fake.readyState = 'closing';
  const sent = one.send('too late');
  await flush();
  fake.close();
  await assert.rejects(sent, {code: 'closed'});
});

/** Returns a peer and its signals. @param {boolean} polite */
function newPeer(polite) {
  /** @type {import('../../../public/peer.js').Signal[]} */
  const sent = [];
  let fetches = 0;
  const connection = new FakeConnection({});
  const peer = new Peer({
    call: 'c', polite, send: signal => sent.push(signal), connect: () => /** @type {any} */ (connection),
    fetchIceServers: async () => (fetches++, [{urls: 'stun:example.org'}]),
  });
  return {peer, sent, connection, fetches: () => fetches, restarts: () => sent.filter(({restart}) => restart).length};
}

test('ICE restarts when it fails, with new servers, and again until it is restored', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date'], now: 1_000_000});
  const {peer, connection, fetches} = newPeer(false);
  connection.setConnectionState('failed');
  assert.equal(peer.state, 'reconnecting');
  t.mock.timers.tick(1);
  await flush();
  assert.deepEqual([connection.restarts, fetches(), connection.configuration.iceServers], [1, 1, [{urls: 'stun:example.org'}]]);
  connection.setConnectionState('failed');
  t.mock.timers.tick(5_000);
  await flush();
  assert.equal(connection.restarts, 1, 'the first one has some time');
  t.mock.timers.tick(3_000);
  await flush();
  assert.equal(connection.restarts, 2);
  connection.setConnectionState('connected');
  t.mock.timers.tick(60_000);
  await flush();
  assert.deepEqual([peer.state, connection.restarts], ['connected', 2]);
  peer.close();
});

test('a connection that is disconnected has three seconds, and the polite peer asks', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date'], now: 1_000_000});
  const {peer, connection, restarts} = newPeer(true);
  connection.setConnectionState('connected');
  connection.setConnectionState('disconnected');
  t.mock.timers.tick(2_900);
  connection.setConnectionState('connected');
  t.mock.timers.tick(10_000);
  assert.equal(restarts(), 0);
  connection.setConnectionState('disconnected');
  t.mock.timers.tick(3_000);
  assert.deepEqual([restarts(), connection.restarts], [1, 0]);
  peer.close();
  t.mock.timers.tick(60_000);
  assert.equal(restarts(), 1);
});

test('ICE does not restart while signals cannot be sent', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date'], now: 1_000_000});
  const {peer, connection, restarts} = newPeer(true);
  peer.setSignaling(false);
  connection.setConnectionState('failed');
  t.mock.timers.tick(20_000);
  assert.equal(restarts(), 0);
  peer.setSignaling(true);
  t.mock.timers.tick(1);
  assert.equal(restarts(), 1);
  peer.close();
});

test('the impolite peer restarts at the request of the polite one, but not twice', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date'], now: 1_000_000});
  const {peer, connection} = newPeer(false);
  connection.setConnectionState('connected');
  for (const n of [1, 2]) {
    await peer.receive({call: 'c', n, restart: true});
    t.mock.timers.tick(100);
    await flush();
  }
  assert.equal(connection.restarts, 1);
  peer.close();
});

test('new servers that the browser rejects leave the last ones, on both sides of a restart', async t => {
  for (const polite of [false, true]) {
    const {peer, connection, sent} = newPeer(polite);
    /** @type {string[]} */
    const errors = [];
    peer.addEventListener('error', ({detail}) => errors.push(detail.message));
    connection.setConfiguration = () => { throw new DOMException('no credentials', 'InvalidAccessError'); };
    await peer.receive({call: 'c', n: 1, description: {type: 'offer', sdp: 'first'}});
    if (polite) await peer.receive({call: 'c', n: 2, description: {type: 'offer', sdp: 'restart'}});
    else connection.setConnectionState('failed');
    await until(() => errors.length > 0 && (polite ? sent.filter(({description}) => description?.type === 'answer').length === 2 : connection.restarts === 1));
    assert.deepEqual(errors, ['no credentials']);
    peer.close();
  }
});

test('a peer that its signal closes has no timer', t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date'], now: 1_000_000});
  const connection = new FakeConnection({});
  let sent = 0;
  const peer = new Peer({call: 'c', polite: true, connect: () => /** @type {any} */ (connection), send: () => (sent++, peer.close())});
  connection.setConnectionState('failed');
  t.mock.timers.tick(1);
  const {now} = Date;
  let timers = 0;
  Date.now = () => (timers++, now());
  try {
    t.mock.timers.tick(100_000);
  } finally {
    Date.now = now;
  }
  assert.deepEqual([peer.state, sent, timers], ['closed', 1, 0]);
});

/** Returns both sides of a call that is connected. @param {object} [atCallee] options @param {object} [atCaller] */
async function call(atCallee = {}, atCaller = {}) {
  const core = {Call: undefined, Peer: undefined};
  const alice = new FakeMailbox('alice'), bob = new FakeMailbox('bob');
  const listener = await listen(bob, {...bob.options, ...core, ...atCallee});
  const answered = new Promise(resolve => listener.addEventListener('call', ({detail}) => resolve(detail)));
  const dialed = connect(alice, 'bob', {...alice.options, ...core, ...atCaller});
  await link(alice, bob);
  const [caller, callee] = await Promise.all([dialed, /** @type {Promise<import('../../../public/peer-call.js').Call>} */ (answered)]);
  return {alice, bob, listener, caller, callee};
}

test('two sides of the core send over their channel, and close', async () => {
  const {caller, callee, listener} = await call();
  assert.ok(caller.channel instanceof Channel && !(caller.channel instanceof DataChannel));
  const received = [collect(caller.channel), collect(callee.channel)];
  await Promise.all([caller.channel.send('from the caller'), callee.channel.send('from the callee')]);
  await until(() => received.flat().length === 2);
  await caller.close();
  assert.deepEqual(await Promise.all([caller.closed, callee.closed]), ['local', 'remote']);
  listener.close();
});

test('a side of the core drops what asks for another connection', async () => {
  const {caller, callee, alice, bob, listener} = await call({}, {Call: ChannelCall, Peer: WatchedPeer});
  bob.deliver('alice', {call: callee.id, renew: 1});
  bob.deliver('alice', {call: callee.id, n: 99, g: 1, description: {type: 'offer', sdp: 'x'}});
  await flush();
  assert.deepEqual([callee.state, bob.connections.length], ['connected', 1]);
  const received = collect(callee.channel);
  await caller.channel.send('still here');
  await until(() => received.length === 1);
  assert.deepEqual([caller.state, alice.connections.length], ['connected', 1]);
  await caller.close();
  listener.close();
});

for (const [name, atCallee, atCaller] of /** @type {[string, object, object][]} */ ([['callee', {Call: ChannelCall, Peer: WatchedPeer}, {}], ['caller', {}, {Call: ChannelCall, Peer: WatchedPeer}]])) {
  test(`a ${name} with channel-call.js keeps its connection to the core, which has no other one`, async t => {
    const {caller, callee, alice, bob, listener} = await call(atCallee, atCaller);
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    for (const {connection} of [alice, bob]) connection.setConnectionState('failed');
    for (let i = 0; i < 60; i++) {
      t.mock.timers.tick(1_000);
      await flush();
    }
    assert.deepEqual([alice.connections.length, bob.connections.length, alice.connection.closed || bob.connection.closed], [1, 1, false]);
    t.mock.timers.reset();
    for (const {connection} of [alice, bob]) connection.setConnectionState('connected');
    await until(() => caller.state === 'connected' && callee.state === 'connected');
    await caller.close();
    listener.close();
  });
}

test('a call with channel-call.js is lost with the channel of its only connection', async () => {
  const {caller, callee, alice, bob, listener} = await call({Call: ChannelCall}, {});
  alice.cut = true;
  for (const {connection} of [alice, bob]) connection.setConnectionState('failed');
  const [channel] = bob.connection.channels;
  channel.other = null;
  channel.close();
  assert.equal(await callee.closed, 'lost');
  await caller.close();
  listener.close();
});

test('a mailbox is released after its last listener, also if another listener was refused', async () => {
  let released = 0;
  class OwnMailbox extends FakeMailbox {
    /** @param {string} _url @param {{name: string}} options */
    constructor(_url, {name}) {
      super(name);
    }

    release() {
      released++;
    }
  }
  const listener = await listen('https://example.org/inbox', {name: 'bob', Inbox: /** @type {any} */ (OwnMailbox)});
  for (let i = 0; i < 3; i++) await assert.rejects(listen(listener.inbox, {}), {code: 'listening'});
  listener.close();
  await until(() => released === 1);
});

test('a call whose connection does not recover is lost after two minutes', async t => {
  const {caller, callee, alice, bob, listener} = await call();
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  alice.cut = bob.cut = true;
  for (const {connection} of [alice, bob]) connection.setConnectionState('failed');
  assert.deepEqual([caller.state, callee.state], ['reconnecting', 'reconnecting']);
  t.mock.timers.tick(119_000);
  assert.equal(caller.state, 'reconnecting');
  t.mock.timers.tick(1_000);
  assert.deepEqual(await Promise.all([caller.closed, callee.closed]), ['lost', 'lost']);
  t.mock.timers.reset();
  listener.close();
});

test('a call continues when ICE is restored', async () => {
  const {caller, callee, alice, bob, listener} = await call();
  for (const {connection} of [alice, bob]) connection.setConnectionState('failed');
  for (const {connection} of [alice, bob]) connection.setConnectionState('connected');
  assert.deepEqual([caller.state, callee.state], ['connected', 'connected']);
  await caller.close();
  listener.close();
});

/** Returns a mailbox whose requests a function answers. @param {(url: URL, init: RequestInit) => Response | Promise<Response>} respond */
function mailbox(respond) {
  /** @type {string[]} */
  const requests = [];
  const fetch = async (/** @type {any} */ url, /** @type {RequestInit} */ init = {}) => {
    requests.push(`${init.method} ${new URL(url).search}`);
    return respond(new URL(url), init);
  };
  return {inbox: new Inbox('https://example.org/inbox', {name: 'me', password: 'secret', client: 'c', fetch: /** @type {typeof globalThis.fetch} */ (fetch)}), requests};
}

/** Never answers, until the request is aborted. @param {RequestInit} init @returns {Promise<Response>} */
const held = ({signal}) => new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
const problem = (/** @type {string} */ code, status = 404) => Response.json({type: `urn:inbox:problem:${code}`, title: code}, {status});

test('the mailbox polls, acknowledges, and sends', async () => {
  let polls = 0;
  const {inbox, requests} = mailbox((_url, init) => {
    if (init.method === 'POST') return new Response();
    if (++polls === 2) return new Response('{"a":1}', {headers: {'X-Message-Id': '7', 'X-From': 'b%20b', 'Content-Type': 'application/json'}});
    return polls === 1 ? new Response(null, {status: 204}) : held(init);
  });
  const message = new Promise(resolve => inbox.addEventListener('message', ({detail}) => resolve(detail)));
  assert.equal(await inbox.start(), true);
  assert.deepEqual(await message, {from: 'b b', id: '7', type: 'application/json', data: {a: 1}});
  await inbox.send('bob', 'hello');
  await until(() => polls === 3);
  assert.deepEqual(requests.sort(), ['GET ?after=&client=c&resume=1&wait=25', 'GET ?after=&client=c&wait=0', 'GET ?after=7&client=c&resume=1&wait=25', 'POST ?to=bob']);
  inbox.close();
});

test('a send waits for a recipient that does not exist, and is repeated after a failure', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const answers = [() => problem('no-inbox'), () => Promise.reject(new TypeError('down')), () => new Response()];
  const {inbox, requests} = mailbox((_url, init) => (init.method === 'POST' ? answers.shift()?.() ?? held(init) : held(init)));
  const sent = inbox.send('bob', 'hello', {wait: 60});
  for (let i = 0; i < 200 && answers.length > 0; i++) {
    await flush();
    t.mock.timers.tick(100);
  }
  await sent;
  assert.deepEqual(requests, Array(3).fill('POST ?to=bob&wait=25'));
  await assert.rejects(mailbox(() => problem('no-inbox')).inbox.send('bob', 'x'), {code: 'no-inbox'});
  inbox.close();
});

test('a mailbox that another client has is superseded, and one of a private server is refused', async () => {
  const superseded = mailbox(() => new Response(null, {status: 204, headers: {'X-Poll-Ended': 'superseded'}}));
  assert.equal(await superseded.inbox.start(), false);
  assert.equal(superseded.inbox.status, 'superseded');
  const other = mailbox(() => problem('other-receiver', 409));
  assert.equal(await other.inbox.start({resume: true}), false);
  assert.equal(other.inbox.status, 'superseded');
  const refused = mailbox(() => problem('invitation-required', 403));
  assert.equal(await refused.inbox.start(), false);
  assert.deepEqual([refused.inbox.status, refused.inbox.refusal?.code], ['refused', 'invitation-required']);
  await assert.rejects(refused.inbox.send('bob', 'x'), {code: 'invitation-required'});
});
