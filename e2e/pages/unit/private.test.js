/** Tests the access to a private server: the option invite, refusals, and where tokens are kept. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {invitation, invitationOf, isCutOff, isInvitation, keepInvitation, noteRefused, tokenFor, wasRefused} from '../../../public/access.js';
import {CodeJoiner} from '../../../public/code-joiner.js';
import {CodeOwner} from '../../../public/code-owner.js';
import {resolveLink} from '../../../public/code-pairing.js';
import {isGuest, keepPasses, sharedRoom} from '../../../public/guest-pass.js';
import {IceServers} from '../../../public/ice.js';
import {Inbox} from '../../../public/inbox.js';
import {refusalOf} from '../../../public/refusal.js';
import {linkOf, rememberedRooms} from '../../../public/remember.js';
import {Room} from '../../../public/room.js';
import {mailboxError} from '../../../public/self-test.js';
import {CallEndpoint} from '../../../public/session.js';
import {ConnectionStatus} from '../../../public/status.js';
import * as strings from '../../../public/strings.js';
import {FakeInbox, FakePeer, FakeServer} from '../lib/fakesession.js';
import {FakeServer as SocketServer, FakeSocket, FakeWebSocket, tick} from '../lib/fakesocket.js';
import {advance, flushPromises, onCleanup, openInbox} from '../lib/inboxes.js';

const token = `invite_${'a2'.repeat(16)}`;
const pass = 'guest_AbC-_9';
const newPass = 'guest_newer';

/** Installs storage of a browser. @param {import('node:test').TestContext} t */
function mockStorage(t) {
  for (const name of ['localStorage', 'sessionStorage']) {
    /** @type {Map<string, string>} */
    const items = new Map();
    const value = {
      getItem: (/** @type {string} */ key) => items.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ item) => items.set(key, item),
      removeItem: (/** @type {string} */ key) => items.delete(key),
    };
    Object.defineProperty(globalThis, name, {value, configurable: true});
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
}

/** Installs an address bar. @param {import('node:test').TestContext} t */
function mockAddress(t) {
  const address = {hash: '', reloads: 0};
  const globals = {
    history: {replaceState: (/** @type {unknown} */ _state, /** @type {unknown} */ _title, /** @type {string} */ hash) => (address.hash = hash)},
    location: {reload: () => address.reloads++},
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, {value, configurable: true});
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  return address;
}

/** Returns a response of a private server that refuses a request. @param {string} code */
function refusal(code) {
  const body = JSON.stringify({type: `urn:inbox:problem:${code}`, title: 'No', status: 403});
  return new Response(body, {status: 403, headers: {'Content-Type': 'application/problem+json'}});
}

test('each request has the invitation, and one that cannot be a field is encoded', async () => {
  /** @type {[string, Record<string, string>][]} */
  const seen = [];
  const inbox = openInbox('https://inbox.example/inbox', {invite: token, fetch: async (url, options) => {
    seen.push([`${options?.method} ${new URL(String(url)).pathname}`, /** @type {Record<string, string>} */ (options?.headers)]);
    return new Response(null, {status: options?.method === 'POST' ? 200 : 204});
  }});
  await inbox.start();
  await inbox.send('bob', 'hello');
  inbox.invite = 'a b\n';
  inbox.sendLast('bob', 'bye');
  inbox.release();
  assert.deepEqual(seen.map(([request, headers]) => `${request} ${headers['Inbox-Invite']}`).filter(one => !one.startsWith('GET')),
    [`POST /inbox ${token}`, 'POST /inbox a%20b%0A', 'DELETE /inbox a%20b%0A']);
  assert.equal(seen[0][1]['Inbox-Invite'], token);
  const open = openInbox('https://inbox.example/inbox', {fetch: async (_url, options) => {
    assert.ok(!('Inbox-Invite' in (options?.headers ?? {})), 'an open server gets no field');
    return new Response(null, {status: 204});
  }});
  await open.start();
});

for (const code of ['invitation-required', 'invitation-expired']) {
  test(`${code} is not retried, rejects messages, and start() tries again`, async t => {
    t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date']});
    let requests = 0;
    let status = 403;
    const inbox = openInbox('https://inbox.example/inbox', {fetch: async () => {
      requests++;
      return status === 403 ? refusal(code) : new Response(null, {status});
    }});
    /** @type {unknown[]} */
    const events = [];
    for (const name of ['status', 'connection']) inbox.addEventListener(name, event => events.push(/** @type {CustomEvent} */ (event).detail));
    inbox.addEventListener('error', event => events.push(/** @type {CustomEvent} */ (event).detail));
    assert.equal(await inbox.start(), false);
    await assert.rejects(inbox.send('bob', 'hello', {wait: Infinity}), {code, status: 403, retryIn: 0});
    assert.deepEqual([inbox.status, inbox.refusal?.code, requests], ['refused', code, 1]);
    assert.deepEqual(events, ['retrying', 'refused', 'lost', inbox.refusal]);
    await advance(t, 60);
    inbox.sendLast('bob', 'bye');
    assert.equal(requests, 1);
    status = 204;
    assert.equal(await inbox.start(), true);
    assert.deepEqual(events.slice(4), ['retrying', 'open', 'restored']);
    status = 403;
    await advance(t, 30);
    assert.equal(inbox.status, 'refused', 'the invitation was revoked');
    const before = requests;
    inbox.release();
    assert.deepEqual([requests, inbox.status], [before, 'closed'], 'there is no mailbox to release');
  });
}

test('a message that the server refuses does not end the inbox', async () => {
  const inbox = openInbox('https://inbox.example/inbox', {invite: pass, fetch: async (_url, options) =>
    options?.method === 'POST' ? refusal('invitation-required') : new Promise((_resolve, reject) => options?.signal?.addEventListener('abort', reject))});
  inbox.start();
  await assert.rejects(inbox.send('carol', 'hello'), {code: 'invitation-required'});
  assert.equal(inbox.status, 'retrying');
});

test('the hello of a WebSocket has the invitation, a new one from the next stream on', async t => {
  FakeSocket.reset();
  t.mock.timers.enable({apis: ['setTimeout', 'setInterval', 'Date']});
  const server = new SocketServer();
  const inbox = openInbox('https://inbox.example/inbox', {
    name: 'ann', client: 'phone', invite: token, fetch: server.fetch, WebSocket: FakeWebSocket, transports: ['websocket'],
  });
  inbox.start();
  await tick(t, 1_100);
  assert.deepEqual(FakeSocket.last.sent('hello'), [`hello ann secret after= client=phone resume=1 invite=${token}`]);
});

test('the list of ICE servers is asked for with the invitation', async t => {
  const fetchMock = t.mock.method(globalThis, 'fetch', async () => Response.json({iceServers: []}));
  const inbox = new Inbox('https://example.org/inbox', {name: 'x', password: 'y', invite: token});
  const ice = new IceServers(inbox);
  await ice.fetch();
  inbox.invite = pass;
  await ice.fetch();
  const sent = fetchMock.mock.calls.map(call => /** @type {any} */ (call.arguments[1]?.headers)['Inbox-Invite']);
  assert.deepEqual(sent, [token, pass]);
});

test('a guest pass is a part of the link', () => {
  const room = new Room('r'.repeat(22), 's'.repeat(22), pass);
  const link = room.link('call', 'https://example.org/');
  assert.equal(link, `https://example.org/call.html#${'r'.repeat(22)}.${pass}.${'s'.repeat(22)}`);
  assert.equal(Room.from(new URL(link).hash)?.pass, pass);
  assert.equal(resolveLink(link, 'https://10.0.0.1/')?.url, link.replace('example.org', '10.0.0.1'));
  for (const other of ['', 'invite_x', 'guest_', `guest_${'x'.repeat(155)}`, 'guest_x y', 7, null]) {
    assert.equal(new Room('a', 'b', other).pass, '', String(other));
  }
  for (const damaged of [`${room.fragment}.x`, room.fragment.slice(0, -1), `#${room.id}.invite_x.${room.secret}`]) assert.equal(Room.from(damaged), null, damaged);
  assert.equal(linkOf({id: room.id, secret: room.secret, page: 'call', name: '', used: 0, pass}), `call.html${room.fragment}`);
});

test('the invitation comes before the pass of a link, until it was refused', t => {
  const room = {pass};
  assert.deepEqual([invitation(), tokenFor(room), keepInvitation(token)], ['', pass, false], 'storage is blocked');
  mockStorage(t);
  assert.deepEqual([tokenFor(room), tokenFor({pass: ''})], [pass, '']);
  assert.ok(keepInvitation(token));
  assert.deepEqual([tokenFor(room), tokenFor({pass: ''})], [token, token]);
  assert.ok(noteRefused(token));
  assert.deepEqual([tokenFor(room), tokenFor({pass: ''})], [pass, token]);
  assert.ok(wasRefused(token) && !wasRefused(pass));
  keepInvitation('');
  assert.equal(invitation(), '');
  assert.deepEqual([token, token.toUpperCase(), `${token}a`, token.slice(1), 'guest_x', ''].map(isInvitation), [true, true, false, false, false, false]);
});

test('the invitation of a link, as far as it is one', () => {
  for (const [fragment, found] of [
    [`#invite=${token}`, token], [`#invite=${token}.`, token], [`#Invite:%20${token}%20`, token], [`#invite=${token.toUpperCase()})`, token.toUpperCase()],
    ['#invite=', ''], ['#invite', ''], ['#invite=invite_abc', 'invite_abc'], [`#invite=${token}a`, `${token}a`], [`#invite=${token}1`, `${token}1`],
    ['', undefined], ['#', undefined], [`#${'r'.repeat(22)}.${'s'.repeat(22)}`, undefined],
  ]) assert.equal(invitationOf(String(fragment)), found, fragment);
  assert.deepEqual([token.slice(0, -1), '', 'invite_', `${token}a`, token.replace('e', '€')].map(isCutOff), [true, true, true, false, false]);
});

test('a refusal says what was refused, and whom to ask', t => {
  mockStorage(t);
  const room = new Room('r'.repeat(22), 's'.repeat(22));
  const of = (/** @type {string} */ code, /** @type {string} */ invite, made = false) => refusalOf({code}, {room, made, invite, inCall: false});
  const {access} = strings;
  assert.deepEqual([of('invitation-required', '', true).hint, of('invitation-required', '').hint], [access.askOperator, access.askSender]);
  const titles = ['invitation-required', 'invitation-expired'].flatMap(code => [token, pass].map(invite => of(code, invite).title));
  assert.deepEqual(titles, [access.invitationUnknown.title, access.passUnknown.title, access.invitationExpired.title, access.passExpired.title]);
});

test('a refused token is followed by the pass of the link, then by that of the remembered room', t => {
  mockStorage(t);
  const address = mockAddress(t);
  const room = new Room('r'.repeat(22), 's'.repeat(22), pass);
  rememberedRooms.remember({id: room.id, secret: room.secret, page: 'call', name: '', used: 1, pass: newPass});
  const refuse = (/** @type {string} */ invite, inCall = false) => refusalOf({code: 'invitation-expired'}, {room, made: false, invite, inCall});
  refuse(token, true);
  assert.equal(address.reloads, 0, 'a call continues');
  refuse(token);
  assert.deepEqual([address.reloads, address.hash.includes(`.${pass}.`), tokenFor(room)], [1, true, pass]);
  refuse(pass);
  assert.deepEqual([address.reloads, address.hash.includes(`.${newPass}.`)], [2, true]);
  refuse(newPass);
  assert.equal(address.reloads, 2, 'there is no other');
});

/** @param {string} code */
function refusedInbox(code) {
  return openInbox('https://inbox.example/inbox', {fetch: async () => refusal(code)});
}

test('the status notice is that of the refusal, before and after the page listens', async () => {
  for (const early of [true, false]) {
    const inbox = refusedInbox('invitation-expired');
    if (early) await inbox.start();
    const found = {title: 'expired', hint: 'ask', inCall: 'continues'};
    const connection = new ConnectionStatus(inbox, () => {}, async () => 'device', async ({code}) => ({...found, title: code}));
    if (!early) await inbox.start();
    await flushPromises();
    assert.deepEqual([connection.notice, connection.refusal?.inCall], [{tone: 'bad', title: 'invitation-expired', hint: 'ask'}, 'continues']);
  }
});

test('codes: a refused device shows none, and its entered code fails', async () => {
  for (const pairing of [new CodeOwner(() => refusedInbox('invitation-required')), new CodeJoiner(() => refusedInbox('invitation-required'), 'ABC234')]) {
    if (pairing instanceof CodeOwner) pairing.renew();
    else pairing.start();
    while (pairing.state === 'starting') await new Promise(resolve => pairing.addEventListener('state', resolve, {once: true}));
    assert.deepEqual([pairing.state, pairing.reason], ['failed', 'invitation-required']);
  }
});

test('the self-test says that the server is private', () => {
  assert.equal(mailboxError({code: 'invitation-required', status: 403}).finding, 'mailboxPrivate');
  assert.equal(mailboxError({code: 'invitation-expired', status: 403}).finding, 'mailboxExpired');
});

/** Opens both sides of a call. */
async function openCall() {
  const server = new FakeServer();
  const createPeer = (/** @type {any} */ options) => /** @type {any} */ (new FakePeer(options));
  const [ann, ben] = /** @type {const} */ (['a', 'b']).map(slot => new CallEndpoint({
    inbox: /** @type {any} */ (new FakeInbox(server, slot)), to: slot === 'a' ? 'b' : 'a', slot, fetchIceServers: async () => [], createPeer,
  }));
  for (const endpoint of [ann, ben]) {
    endpoint.open();
    endpoint.start();
    onCleanup(() => endpoint.stop());
  }
  for (let i = 0; i < 20; i++) await flushPromises();
  return {server, ann, ben};
}

test('a host gives the guest a pass in each call, which the guest keeps with the room', async t => {
  mockStorage(t);
  const address = mockAddress(t);
  const room = new Room('r'.repeat(22), 's'.repeat(22), pass);
  rememberedRooms.remember({id: room.id, secret: room.secret, page: 'call', name: '', used: 1, pass});
  const {ann, ben} = await openCall();
  const guest = /** @type {any} */ ({room, role: 'b', inbox: {invite: pass, status: 'open'}});
  keepPasses(guest, ben);
  assert.ok(isGuest(guest));
  for (const bad of ['x', 'guest_', `guest_${'x'.repeat(200)}`]) ben.dispatchEvent(new CustomEvent('pass', {detail: bad}));
  assert.equal(rememberedRooms.find(room.id)?.pass, pass, 'only a pass is kept');
  /** @type {any} */ (ann.peer)?.dispatchEvent(new Event('state'));
  ann.givePass(newPass);
  for (let i = 0; i < 20; i++) await flushPromises();
  assert.deepEqual([rememberedRooms.find(room.id)?.pass, guest.inbox.invite, address.hash.includes(`.${newPass}.`)], [newPass, newPass, true]);
});

test('a host gets a pass for its link, again after an outage, for 30 days if it remembers the room', async t => {
  mockStorage(t);
  t.mock.timers.enable({apis: ['setTimeout', 'setInterval']});
  const target = new EventTarget();
  const listen = target.addEventListener.bind(target);
  Object.defineProperty(globalThis, 'addEventListener', {value: listen, configurable: true});
  Object.defineProperty(globalThis, 'document', {value: {baseURI: 'https://inbox.example/call.html'}, configurable: true});
  t.after(() => ['addEventListener', 'document'].forEach(name => Reflect.deleteProperty(globalThis, name)));
  const answers = [() => Promise.reject(new TypeError('down')), async () => new Response(null, {status: 503}), async () => Response.json({pass})];
  const fetchMock = t.mock.method(globalThis, 'fetch', () => (answers.shift() ?? (async () => Response.json({pass: newPass})))());
  const room = new Room('r'.repeat(22), 's'.repeat(22));
  const endpoint = Object.assign(new EventTarget(), {state: 'waiting', given: [''], givePass(/** @type {string} */ given) { this.given.push(given); }});
  /** @type {string[]} */
  const renewed = [];
  const context = /** @type {any} */ ({room, role: 'a', inbox: {invite: token, status: 'open'}});
  const shared = sharedRoom(context, /** @type {any} */ (endpoint), next => renewed.push(next.pass));
  await advance(t, 11);
  assert.equal((await shared).pass, pass);
  rememberedRooms.remember({id: room.id, secret: room.secret, page: 'call', name: '', used: 1});
  target.dispatchEvent(new Event('remembered'));
  endpoint.state = 'connected';
  endpoint.dispatchEvent(new Event('state'));
  await advance(t, 1);
  assert.deepEqual([renewed, endpoint.given], [[newPass, newPass], ['', pass, newPass, newPass]]);
  const redirects = fetchMock.mock.calls.map(call => /** @type {any[]} */ (call.arguments)[1].redirect);
  assert.deepEqual(new Set(redirects), new Set(['error']), 'a redirect would get the invitation');
  const bodies = fetchMock.mock.calls.map(call => JSON.parse(String(/** @type {any[]} */ (call.arguments)[1].body)));
  assert.deepEqual(bodies.map(({remembered}) => remembered), [false, false, false, true, true]);
  assert.deepEqual(bodies[0].names, [`${room.id}-a`, `${room.id}-b`]);
  context.inbox.invite = '';
  const before = fetchMock.mock.callCount();
  assert.equal(await sharedRoom(context, /** @type {any} */ (endpoint), () => {}), room);
  assert.equal(fetchMock.mock.callCount(), before, 'without an invitation, there is no request');
});
