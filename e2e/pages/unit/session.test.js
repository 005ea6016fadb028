/** Tests session.js with an in-memory server and peers that record calls. */

import assert from 'node:assert/strict';
import {afterEach, beforeEach, mock, test} from 'node:test';
import {CallEndpoint, ReceivingEndpoint, SendingEndpoint} from '../../../public/session.js';
import {FakeInbox, FakePeer, FakeServer} from '../lib/fakesession.js';

const flushPromises = () => new Promise(resolve => setImmediate(resolve));

/** @type {SendingEndpoint[]} */
let senders = [];
beforeEach(() => mock.timers.enable({apis: ['setInterval', 'Date']}));
afterEach(() => {
  for (const sender of senders) sender.stop();
  senders = [];
  mock.timers.reset();
});

/**
 * Creates an endpoint with a fake inbox and fake peers.
 * @template {typeof SendingEndpoint | typeof ReceivingEndpoint | typeof CallEndpoint} T
 * @param {T} Class
 * @param {FakeServer} server
 * @param {{slot?: 'a'|'b', device?: string}} [more]
 */
function makeEndpoint(Class, server, more = {}) {
  const first = more.slot ? more.slot === 'a' : Class === SendingEndpoint;
  const [name, to] = first ? ['s', 'r'] : ['r', 's'];
  /** @type {FakePeer[]} */
  const peers = [];
  const options = /** @type {any} */ ({
    inbox: new FakeInbox(server, name), to,
    fetchIceServers: async () => [{urls: 'stun:example.org'}],
    ...more,
    createPeer: (/** @type {any} */ o) => { peers.push(new FakePeer(o)); return peers.at(-1); },
  });
  const endpoint = new Class(options);
  if (endpoint instanceof SendingEndpoint) senders.push(endpoint);
  return {endpoint: /** @type {InstanceType<T>} */ (endpoint), peers, inbox: /** @type {FakeInbox} */ (options.inbox)};
}

const tooLarge = {kind: 'signal', status: 413, code: 'body-too-large'};

/**
 * Sets up a room with a live camera and a screen.
 * @param {typeof tooLarge | null} [rejected] the message of the camera that the server rejects
 */
async function call(rejected = null) {
  const server = new FakeServer();
  const camera = makeEndpoint(SendingEndpoint, server);
  const screen = makeEndpoint(ReceivingEndpoint, server);
  camera.inbox.rejects = rejected;
  camera.endpoint.open();
  await camera.endpoint.setTrack('video', null);
  camera.endpoint.start();
  screen.endpoint.open();
  await flushPromises();
  return {server, camera, screen};
}

test('the camera opens first: one call with ICE servers, and the screen is polite', async () => {
  const {camera, screen} = await call();
  assert.equal(camera.peers.length, 1);
  assert.equal(screen.peers.length, 1);
  assert.equal(camera.peers[0].call, screen.peers[0].call);
  assert.deepEqual([camera.peers[0].options.polite, screen.peers[0].options.polite], [false, true]);
  assert.deepEqual(screen.peers[0].options.iceServers, [{urls: 'stun:example.org'}]);
  assert.equal(screen.peers[0].received[0].description.type, 'offer');
  assert.deepEqual([camera.endpoint.state, screen.endpoint.state], ['connecting', 'connecting']);
});

test('the screen opens first: both endpoints are present before start', async () => {
  const server = new FakeServer();
  const screen = makeEndpoint(ReceivingEndpoint, server);
  screen.endpoint.open();
  await flushPromises();
  assert.equal(screen.endpoint.state, 'waiting');
  const camera = makeEndpoint(SendingEndpoint, server);
  camera.endpoint.open();
  await flushPromises();
  assert.deepEqual([camera.endpoint.state, screen.endpoint.state], ['present', 'present']);
  await camera.endpoint.setTrack('video', null);
  camera.endpoint.start();
  await flushPromises();
  assert.equal(screen.peers.length, 1);
});

test('a reloaded screen gets a new call', async () => {
  const {server, camera} = await call();
  const reloaded = makeEndpoint(ReceivingEndpoint, server);
  reloaded.endpoint.open();
  await flushPromises();
  assert.equal(camera.peers.length, 2);
  assert.equal(camera.peers[0].state, 'closed');
  assert.notEqual(camera.peers[0].call, camera.peers[1].call);
  assert.equal(reloaded.peers[0].call, camera.peers[1].call);
});

test('signals for an earlier load of the page are dropped', async () => {
  const {server} = await call();
  const stale = server.sent.filter(({data}) => data.kind === 'signal');
  server.inboxes.delete('s');
  const reloaded = makeEndpoint(ReceivingEndpoint, server);
  reloaded.endpoint.open();
  for (const {data} of stale) reloaded.endpoint.inbox.dispatchEvent(new CustomEvent('message', {detail: {from: 's', data}}));
  await flushPromises();
  assert.equal(reloaded.peers.length, 0);
});

test('a late candidate of an earlier call starts no call', async () => {
  const {screen, camera} = await call();
  await screen.endpoint.onMessage({kind: 'signal', page: camera.endpoint.page, to: screen.endpoint.page, signal: {call: 'earlier', n: 9, candidates: []}});
  assert.equal(screen.peers.length, 1);
  assert.equal(screen.peers[0].state, 'connecting');
});

test('messages from other senders and malformed messages are ignored', async () => {
  const {screen} = await call();
  for (const detail of [{from: 'x', data: {kind: 'bye', page: screen.endpoint.remotePage}}, {from: 's', data: null}, {from: 's', data: 'bye'}, {from: 's', data: {page: 1}}]) {
    screen.endpoint.inbox.dispatchEvent(new CustomEvent('message', {detail}));
  }
  await flushPromises();
  assert.equal(screen.endpoint.state, 'connecting');
});

test('a reloaded camera ends the old call and waits for start', async () => {
  const {server, screen} = await call();
  screen.peers[0].setState('connected');
  const reloaded = makeEndpoint(SendingEndpoint, server);
  reloaded.endpoint.open();
  await flushPromises();
  assert.equal(screen.endpoint.state, 'present');
  assert.equal(screen.peers[0].state, 'closed');
  await reloaded.endpoint.setTrack('video', null);
  reloaded.endpoint.start();
  await flushPromises();
  assert.equal(screen.peers.length, 2);
});

test('stop and leave end the call on the screen as well', async () => {
  const {camera, screen} = await call();
  camera.endpoint.stop();
  await flushPromises();
  assert.deepEqual([camera.endpoint.state, screen.endpoint.state], ['present', 'present']);
  camera.endpoint.leave();
  await flushPromises();
  assert.equal(screen.endpoint.state, 'waiting');
  screen.endpoint.leave();
  await flushPromises();
  assert.equal(camera.endpoint.state, 'present', 'a screen without a remote page sends no bye');
});

test('a call that does not connect is replaced after the timeout, not before', async () => {
  const {camera} = await call();
  mock.timers.tick(9_000);
  await flushPromises();
  assert.equal(camera.peers.length, 1);
  mock.timers.tick(3_000);
  await flushPromises();
  assert.equal(camera.peers.length, 2);
});

test('a connected call is kept, and a broken one has time to recover', async () => {
  const {camera, server} = await call();
  camera.peers[0].setState('connected');
  mock.timers.tick(60_000);
  await flushPromises();
  camera.peers[0].setState('reconnecting');
  assert.equal(camera.endpoint.state, 'reconnecting');
  mock.timers.tick(9_000);
  await flushPromises();
  assert.equal(camera.peers.length, 1);
  const hellos = server.count('hello');
  mock.timers.tick(2_000);
  await flushPromises();
  assert.equal(server.count('hello'), hellos + 2, 'a hello and its reply');
  assert.equal(camera.peers.length, 2);
});

test('a camera without a screen sends hellos at a limited rate', async () => {
  const {camera, server, screen} = await call();
  screen.endpoint.leave();
  await flushPromises();
  assert.equal(camera.endpoint.state, 'waiting');
  server.inboxes.set('r', new FakeInbox(server, 'r')); // the mailbox outlives the page
  const hellos = server.count('hello');
  for (let second = 0; second < 60; second++) {
    mock.timers.tick(1_000);
    await flushPromises();
  }
  const more = server.count('hello') - hellos;
  assert.ok(more >= 8 && more <= 12, `got ${more} hellos in a minute`);
});

test('a superseded page sends nothing', async () => {
  const {camera, server} = await call();
  const before = server.sent.length;
  Object.assign(camera.endpoint.inbox, {status: 'superseded'});
  camera.endpoint.stop();
  await flushPromises();
  assert.equal(server.sent.length, before);
});

test('a stop while the ICE servers are fetched leaves no call behind', async () => {
  const {camera} = await call();
  /** @type {(servers: RTCIceServer[]) => void} */
  let answer = () => {};
  camera.endpoint.fetchIceServers = () => new Promise(resolve => { answer = resolve; });
  const handled = camera.endpoint.onMessage({kind: 'hello', page: 'new'});
  await flushPromises();
  camera.endpoint.stop();
  answer([]);
  await handled;
  assert.equal(camera.endpoint.peer, null);
  assert.equal(camera.peers.at(-1)?.state, 'closed');
});

test('a screen superseded while the ICE servers are fetched creates no peer', async () => {
  const {camera, screen} = await call();
  /** @type {(servers: RTCIceServer[]) => void} */
  let answer = () => {};
  screen.endpoint.fetchIceServers = () => new Promise(resolve => { answer = resolve; });
  const signal = /** @type {const} */ ({call: 'next', n: 1, description: {type: 'offer', sdp: ''}});
  const handled = screen.endpoint.onMessage({kind: 'signal', page: camera.endpoint.page, to: screen.endpoint.page, signal});
  await flushPromises();
  screen.endpoint.hangUp(); // as the page does when it is superseded
  answer([]);
  await handled;
  assert.equal(screen.peers.length, 1, 'peers created');
  assert.equal(screen.endpoint.peer, null);
});

test('a rejected offer ends the call on both sides with the error', async () => {
  const {server, camera, screen} = await call(tooLarge);
  assert.deepEqual([camera.endpoint.error, screen.endpoint.error], [tooLarge, tooLarge]);
  assert.deepEqual([camera.endpoint.live, camera.endpoint.state, screen.endpoint.state], [false, 'present', 'present']);
  mock.timers.tick(60_000);
  await flushPromises();
  assert.equal(camera.peers.length, 1, 'no new call is started');

  camera.inbox.rejects = null;
  camera.endpoint.start();
  await flushPromises();
  assert.deepEqual([camera.endpoint.error, screen.endpoint.error], [null, null]);
  assert.equal(screen.peers.length, 1);
  assert.equal(server.count('refused'), 1);
});

test('a rejected answer ends the call on both sides with the error', async () => {
  const {camera, screen} = await call();
  screen.inbox.rejects = tooLarge;
  screen.peers[0].options.send({call: screen.peers[0].call, n: 1, description: {type: 'answer', sdp: ''}});
  await flushPromises();
  assert.deepEqual([camera.endpoint.error, screen.endpoint.error], [tooLarge, tooLarge]);
  assert.deepEqual([camera.endpoint.live, camera.endpoint.peer, screen.endpoint.peer], [false, null, null]);
});

test('a late rejection of a replaced call does not affect the next call', async () => {
  const {camera} = await call();
  const sendLate = camera.peers[0].options.send;
  await camera.endpoint.onMessage({kind: 'hello', page: 'new'});
  camera.inbox.rejects = tooLarge;
  sendLate({call: camera.peers[0].call, n: 2, candidates: []});
  await flushPromises();
  assert.deepEqual([camera.endpoint.error, camera.endpoint.live], [null, true]);
});

test('a connected call survives the rejection of a late signal', async () => {
  const {camera, screen} = await call();
  for (const {peers} of [camera, screen]) peers[0].setState('connected');
  camera.inbox.rejects = tooLarge;
  camera.peers[0].options.send({call: camera.peers[0].call, n: 2, candidates: []});
  await flushPromises();
  assert.deepEqual([camera.endpoint.state, screen.endpoint.state], ['connected', 'connected']);
});

test('a rejected hello is sent again when the server accepts requests', async () => {
  const server = new FakeServer();
  const screen = makeEndpoint(ReceivingEndpoint, server);
  screen.inbox.rejects = {kind: 'hello', status: 401, code: 'unauthorized'};
  screen.endpoint.open();
  await flushPromises();
  assert.deepEqual(screen.endpoint.error, screen.inbox.rejects);
  screen.inbox.rejects = null;
  screen.inbox.setStatus('open');
  await flushPromises();
  assert.equal(screen.endpoint.error, null, 'although the recipient does not exist yet');
  server.register(new FakeInbox(server, 's'));
  await flushPromises();
  assert.equal(server.count('hello'), 1);
});

test('a call does not time out while the inbox backs off', async () => {
  const {camera} = await call();
  camera.inbox.setStatus('retrying');
  mock.timers.tick(30_000);
  camera.inbox.setStatus('open');
  mock.timers.tick(9_000);
  await flushPromises();
  assert.equal(camera.peers.length, 1);
  mock.timers.tick(3_000);
  await flushPromises();
  assert.equal(camera.peers.length, 2);
});

test('messages about another page, or an earlier load of this page, are ignored', async () => {
  const {camera, screen} = await call();
  for (const {peers} of [camera, screen]) peers[0].setState('connected');
  await screen.endpoint.onMessage({kind: 'bye', page: 'another'});
  await screen.endpoint.onMessage({kind: 'refused', page: camera.endpoint.page, to: 'an earlier load', code: 'body-too-large', status: 413});
  assert.deepEqual([screen.endpoint.state, screen.endpoint.error], ['connected', null]);
});

test('at most one hello is pending', async () => {
  const server = new FakeServer();
  const screen = makeEndpoint(ReceivingEndpoint, server);
  screen.endpoint.open();
  for (let i = 0; i < 5; i++) void screen.endpoint.sendHello();
  await flushPromises();
  server.register(new FakeInbox(server, 's'));
  await flushPromises();
  assert.equal(server.count('hello'), 1);
  await screen.endpoint.sendHello();
  assert.equal(server.count('hello'), 2, 'the next hello is sent');
});

test('a new track is added to the current call', async () => {
  const {camera} = await call();
  const track = /** @type {MediaStreamTrack} */ ({kind: 'audio'});
  await camera.endpoint.setTrack('audio', track);
  assert.equal(camera.peers[0].tracks.get('audio'), track);
});

test('a peer knows whether its own server responds', async () => {
  const {camera, screen} = await call();
  camera.inbox.setConnection('lost');
  await camera.endpoint.onMessage({kind: 'hello', page: 'new'});
  camera.inbox.setConnection('restored');
  assert.deepEqual(camera.peers.map(({signaling}) => signaling), [[true, false], [false, true]]);
  assert.deepEqual(screen.peers[0].signaling, [true]);
});

test('the inbox retries sooner during a relayed call', async () => {
  const {camera} = await call();
  const [peer] = camera.peers;
  peer.setRelayed(false);
  assert.equal(camera.inbox.maxRetryDelay, 15_000);
  peer.setRelayed(true);
  assert.equal(camera.inbox.maxRetryDelay, 2_000);
  camera.endpoint.stop();
  assert.equal(camera.inbox.maxRetryDelay, 15_000);
});

test('a call fetches the servers before it begins, and can fetch them again', async () => {
  const {screen} = await call();
  const {options} = screen.peers[0];
  assert.equal(options.fetchIceServers, screen.endpoint.fetchIceServers);
  assert.equal(options.iceTransportPolicy, undefined);
});

test('a superseded page ends its call, and is a new page when it takes over again', async () => {
  const {camera, screen} = await call();
  screen.inbox.supersede();
  assert.equal(screen.endpoint.peer, null);
  screen.endpoint.open();
  await flushPromises();
  assert.equal(camera.peers.length, 2, 'it gets a new call');
  camera.inbox.supersede();
  assert.deepEqual([camera.endpoint.live, camera.endpoint.peer], [false, null]);
});

/** @param {FakeServer} server */
const reportsOf = ({sent}) => sent.flatMap(({data}) => data.signal?.report ?? []);

test('each side tells the other its device and the states of its tracks', async () => {
  const server = new FakeServer();
  const camera = makeEndpoint(SendingEndpoint, server, {device: 'phone'});
  const screen = makeEndpoint(ReceivingEndpoint, server, {device: 'laptop'});
  camera.endpoint.setMedia({audio: 'off'});
  camera.endpoint.open();
  await camera.endpoint.setTrack('video', null);
  camera.endpoint.start();
  screen.endpoint.open();
  await flushPromises();
  assert.deepEqual(screen.endpoint.remote,
    {live: true, device: 'phone', media: {audio: 'off', video: 'on'}, muted: {audio: true, video: false}});
  assert.equal(screen.endpoint.remoteLive, true);
  const before = server.sent.length;
  let changes = 0;
  screen.endpoint.addEventListener('remote', () => changes++);
  camera.endpoint.setMedia({video: 'interrupted'});
  camera.endpoint.setMedia({video: 'interrupted'});
  await flushPromises();
  assert.deepEqual([screen.endpoint.remote.muted.video, changes, server.sent.length - before], [true, 1, 1]);

  const late = reportsOf(server)[0];
  const {call} = screen.peers[0];
  await screen.endpoint.onMessage({kind: 'signal', page: camera.endpoint.page, to: screen.endpoint.page, signal: {call, report: late}});
  assert.equal(screen.endpoint.remote.media.video, 'interrupted', 'a late report is dropped');
  const strange = /** @type {any} */ ({n: 99, device: {}, media: {video: 'x'}});
  await screen.endpoint.onMessage({kind: 'signal', page: camera.endpoint.page, to: screen.endpoint.page, signal: {call, report: strange}});
  assert.deepEqual(screen.endpoint.remote.media, {audio: 'on', video: 'on'}, 'unknown states');

  camera.endpoint.leave();
  await flushPromises();
  assert.deepEqual([screen.endpoint.remote.device, screen.endpoint.remoteLive], ['', false]);
});

/** Sets up a room with both sides of a two-way call, which are open and not live. */
async function room() {
  const server = new FakeServer();
  const a = makeEndpoint(CallEndpoint, server, {slot: 'a'});
  const b = makeEndpoint(CallEndpoint, server, {slot: 'b'});
  for (const {endpoint} of [a, b]) endpoint.open();
  await flushPromises();
  return {server, a, b};
}

for (const order of ['ab', 'ba']) {
  test(`a two-way call begins when both sides have started, in the order ${order}`, async () => {
    const sides = await room();
    const {a, b} = sides;
    const video = /** @type {MediaStreamTrack} */ ({kind: 'video'});
    const [first, second] = [...order].map(slot => sides[/** @type {'a'|'b'} */ (slot)]);
    await b.endpoint.setTrack('video', video);
    first.endpoint.start();
    await flushPromises();
    assert.deepEqual([second.endpoint.remoteLive, first.peers.length, second.peers.length], [true, 0, 0]);
    second.endpoint.start();
    await flushPromises();
    assert.deepEqual([a.peers.length, b.peers.length], [1, 1]);
    assert.deepEqual([a.peers[0].options.polite, b.peers[0].options.polite, b.peers[0].options.twoWay], [false, true, true]);
    assert.deepEqual([a.peers[0].tracks.size, b.peers[0].tracks.get('video')], [2, video]);
    assert.deepEqual([a.endpoint.state, b.endpoint.state], ['connecting', 'connecting']);
  });
}

for (const slot of /** @type {const} */ (['a', 'b'])) {
  test(`side ${slot} of a two-way call hangs up, calls again, reloads and leaves`, async () => {
    const sides = await room();
    const {server} = sides;
    const one = sides[slot];
    const other = sides[slot === 'a' ? 'b' : 'a'];
    one.endpoint.start();
    other.endpoint.start();
    await flushPromises();
    one.endpoint.stop();
    await flushPromises();
    assert.deepEqual([other.endpoint.peer, other.endpoint.remoteLive, other.endpoint.state], [null, false, 'present']);
    one.endpoint.start();
    await flushPromises();
    assert.deepEqual([one.peers.length, other.peers.length], [2, 2]);

    const reloaded = makeEndpoint(CallEndpoint, server, {slot});
    reloaded.endpoint.open();
    await flushPromises();
    assert.deepEqual([other.endpoint.peer, other.endpoint.remoteLive], [null, false]);
    reloaded.endpoint.start();
    await flushPromises();
    assert.deepEqual([reloaded.peers.length, other.peers.length], [1, 3]);

    reloaded.endpoint.leave();
    await flushPromises();
    assert.deepEqual([other.endpoint.state, other.endpoint.peer, reloaded.inbox.released], ['waiting', null, true]);
  });
}

test('a two-way call that does not connect is replaced, and no hellos go to a page that has not started', async () => {
  const {server, a, b} = await room();
  a.endpoint.start();
  await flushPromises();
  const hellos = server.count('hello');
  mock.timers.tick(30_000);
  await flushPromises();
  assert.equal(server.count('hello'), hellos);
  b.endpoint.start();
  await flushPromises();
  mock.timers.tick(12_000);
  await flushPromises();
  assert.deepEqual([a.peers.length, b.peers.length], [2, 2]);
});

test('a new try of either side replaces a call that is young, but not one that is connected', async () => {
  const {a, b} = await room();
  for (const {endpoint} of [a, b]) endpoint.start();
  await flushPromises();
  for (const [i, {endpoint}] of [a, b].entries()) {
    void endpoint.retry();
    await flushPromises();
    assert.deepEqual([a.peers.length, b.peers.length], [i + 2, i + 2]);
  }
  a.peers[2].setState('connected');
  void b.endpoint.retry();
  await flushPromises();
  assert.equal(a.peers.length, 3);
});

test('a superseded side does not release the mailbox of the page that replaced it', async () => {
  const {a} = await room();
  a.inbox.supersede();
  a.endpoint.leave();
  assert.equal(a.inbox.released, false);
});

test('a side that has not started accepts no call', async () => {
  const {a, b} = await room();
  const signal = /** @type {const} */ ({call: 'x', n: 1, description: {type: 'offer', sdp: ''}});
  await b.endpoint.onMessage({kind: 'signal', page: a.endpoint.page, to: b.endpoint.page, signal});
  assert.equal(b.peers.length, 0);
});

test('messages whose page or live is of the wrong type are dropped, and the next ones are handled', async () => {
  const {endpoint, inbox} = makeEndpoint(ReceivingEndpoint, new FakeServer());
  const receive = async (/** @type {any} */ data) => {
    inbox.dispatchEvent(new CustomEvent('message', {detail: {from: 's', data}}));
    await flushPromises();
  };
  for (const page of [{}, [], 7, true, '', 'x'.repeat(65), JSON.parse('{"__proto__": {"length": 1}}')]) {
    await receive({kind: 'hello', page, live: true});
    assert.equal(endpoint.remotePage, '', JSON.stringify(page));
  }
  for (const data of [null, 'hello', [], {kind: '__proto__', page: 'p1'}, {kind: 'signal', page: 'p1', signal: 'x'}]) await receive(data);
  assert.equal(endpoint.remotePage, '');
  await receive({kind: 'hello', page: 'p1', live: 'yes'});
  assert.equal(endpoint.remotePage, 'p1');
  assert.equal(endpoint.remoteLive, false);
  assert.equal(endpoint.state, 'present');
});
