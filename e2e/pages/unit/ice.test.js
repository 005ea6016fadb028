/** Tests ice.js: the list of servers, or the last list on failure, and connections without invalid servers. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {turnOff, urlKind} from '../../../public/ice-urls.js';
import {IceServers, applyAccepted, connectWith} from '../../../public/ice.js';
import {Inbox} from '../../../public/inbox.js';

const inbox = new Inbox('https://example.org/inbox', {name: 'x', password: 'y'});

test('the request is authenticated and returns the servers', async t => {
  const servers = [{urls: ['turn:example.org'], username: 'u', credential: 'c'}];
  const fetchMock = t.mock.method(globalThis, 'fetch', async () => Response.json({iceServers: servers}));
  assert.deepEqual(await new IceServers(inbox).fetch(), servers);
  const [, options] = fetchMock.mock.calls[0].arguments;
  assert.deepEqual([options?.cache, options?.credentials, options?.redirect, options?.headers], ['no-store', 'omit', 'manual', {Authorization: inbox.authorization}]);
});

for (const [name, respond] of /** @type {[string, () => Promise<Response>][]} */ ([
  ['no response', () => Promise.reject(new TypeError('down'))],
  ['an error status', async () => Response.json({type: 'urn:inbox:problem:unauthorized', title: 'No', status: 401}, {status: 401})],
  ['invalid JSON', async () => new Response('<p>')],
  ['a missing list', async () => Response.json({})],
  ['null', async () => Response.json(null)],
  ['an object in place of the list', async () => Response.json({iceServers: {urls: 'stun:x'}})],
  ['a string in place of the list', async () => Response.json({iceServers: 'stun:x'})],
])) {
  test(`${name}: the last list, which is empty at first, and the console says why`, async t => {
    const info = t.mock.method(console, 'info', () => {});
    const fetchMock = t.mock.method(globalThis, 'fetch', respond);
    const ice = new IceServers(inbox);
    assert.deepEqual(await ice.fetch(), []);
    assert.match(info.mock.calls[0].arguments[0], /^No new list of ICE servers: /);
    fetchMock.mock.mockImplementationOnce(async () => Response.json({iceServers: [{urls: 'stun:y'}]}), 1);
    assert.deepEqual(await ice.fetch(), [{urls: 'stun:y'}]);
    assert.deepEqual(await ice.fetch(), [{urls: 'stun:y'}]);
  });
}

for (const [body, turn] of /** @type {[object, string][]} */ ([
  [{iceServers: []}, ''], [{iceServers: [], turn: 'month-used'}, 'month-used'], [{iceServers: [], turn: 'other-origin'}, 'other-origin'], [{iceServers: [], turn: {}}, ''], [{iceServers: [], turn: 'later'}, ''],
])) {
  test(`TURN is ${turn || 'offered'} in ${JSON.stringify(body)}`, async t => {
    t.mock.method(globalThis, 'fetch', async () => Response.json(body));
    const ice = new IceServers(inbox);
    await ice.fetch();
    assert.equal(turnOff(ice), turn);
  });
}

test('the last list and whether there is one', async t => {
  t.mock.method(console, 'info', () => {});
  const fetchMock = t.mock.method(globalThis, 'fetch', async () => Response.json({}, {status: 500}));
  const ice = new IceServers(inbox);
  await ice.fetch();
  assert.deepEqual([ice.last, ice.servers], [null, []]);
  fetchMock.mock.mockImplementation(async () => Response.json({iceServers: [{urls: 'stun:y'}]}));
  await ice.fetch();
  assert.deepEqual([ice.last, ice.servers], [{iceServers: [{urls: 'stun:y'}]}, [{urls: 'stun:y'}]]);
});

for (const [url, kind] of /** @type {[unknown, string | null][]} */ ([
  ['stun:a', 'stun'], ['STUN:a:1', 'stun'], ['turn:a', 'turn-udp'], ['turn:a:1?transport=udp', 'turn-udp'], ['turn:a?transport=tcp', 'turn-tcp'],
  ['turns:a', 'turn-tls'], ['turns:[::1]:443?transport=tcp', 'turn-tls'], ['stuns:a', null], ['https://a', null], ['', null], [null, null], [{}, null],
])) {
  test(`${url} is ${kind ?? 'no server'}`, () => assert.equal(urlKind(url), kind));
}

test('each request fetches a new list', async t => {
  let count = 0;
  t.mock.method(globalThis, 'fetch', async () => Response.json({iceServers: [{urls: `stun:h${++count}`}]}));
  const ice = new IceServers(inbox);
  assert.deepEqual([await ice.fetch(), await ice.fetch()], [[{urls: 'stun:h1'}], [{urls: 'stun:h2'}]]);
});

test('the request times out', async t => {
  t.mock.method(console, 'info', () => {});
  const limit = new AbortController();
  const timeout = t.mock.method(AbortSignal, 'timeout', () => limit.signal);
  t.mock.method(globalThis, 'fetch', (/** @type {string} */ _url, /** @type {RequestInit} */ {signal}) =>
    new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))));
  const servers = new IceServers(inbox).fetch();
  assert.deepEqual(timeout.mock.calls[0].arguments, [5_000]);
  limit.abort();
  assert.deepEqual(await servers, []);
});

/** FakeConnection rejects servers as browsers do. */
class FakeConnection {
  closed = false;
  /** @param {any} configuration */
  constructor({iceServers}) {
    for (const {urls} of iceServers) {
      if (urls === undefined || urls.length === 0) throw new TypeError('malformed');
      for (const url of [urls].flat()) {
        if (!/^stun:[a-z]+\d*$/.test(url)) throw new SyntaxError(url);
      }
    }
    this.iceServers = iceServers;
  }
  close() { this.closed = true; }
}

/**
 * Connects with fake connections.
 * @param {import('node:test').TestContext} t
 * @param {unknown} servers
 */
function connectWithFakes(t, servers) {
  const warn = t.mock.method(console, 'warn', () => {});
  /** @type {FakeConnection[]} */
  const made = [];
  const connect = (/** @type {RTCIceServer[]} */ iceServers) => {
    const connection = new FakeConnection({iceServers});
    made.push(connection);
    return /** @type {any} */ (connection);
  };
  const {connection, rejected} = connectWith(connect, /** @type {any} */ (servers));
  assert.deepEqual(made.filter(({closed}) => !closed), [connection], 'the unused connections are closed');
  return {servers: /** @type {any} */ (connection).iceServers, rejected, warnings: warn.mock.calls.map(({arguments: [text]}) => text)};
}

test('servers that the browser accepts are used as they are', t => {
  const servers = [{urls: ['stun:a', 'stun:b']}, {urls: 'stun:c', username: 'u', credential: 'c'}];
  assert.deepEqual(connectWithFakes(t, servers), {servers, rejected: [], warnings: []});
});

for (const [name, servers, want, rejected] of /** @type {[string, unknown, object[], string[]][]} */ ([
  ['one URL of several', [{urls: ['stun:a', 'stun:h:99999'], username: 'u'}, {urls: 'stun:b'}], [{urls: 'stun:a', username: 'u'}, {urls: 'stun:b'}], ['stun:h:99999']],
  ['the only one', [{urls: 'stun:h?transport=udp', credential: 'secret'}], [], ['stun:h?transport=udp']],
  ['null', null, [], ['undefined']],
  ['an object', {urls: 'stun:h:'}, [], ['stun:h:']],
  ['a string', 'stun:a', [], ['undefined']],
  ['entries that are not objects', [null, 'stun:a', 5, {urls: 'stun:b'}], [{urls: 'stun:b'}], Array(3).fill('undefined')],
  ['entries without URLs', [{}, {urls: []}, {urls: null}, {urls: 'stun:b'}], [{urls: 'stun:b'}], ['undefined', 'null']],
  ['URLs that are not strings', [{urls: [5, ['stun:x:'], 'stun:b']}], [{urls: 'stun:b'}], ['5', 'stun:x:']],
])) {
  test(`invalid servers are left out: ${name}`, t => {
    const got = connectWithFakes(t, servers);
    assert.deepEqual([got.servers, got.rejected], [want, rejected]);
    assert.equal(got.warnings.length, 1);
    assert.ok(!got.warnings[0].includes('secret'), 'the console shows no credentials');
  });
}

test('URLs beyond the limit are left out', t => {
  for (const servers of [Array.from({length: 100}, (_, i) => ({urls: `stun:h${i}`})), [{urls: Array.from({length: 100}, (_, i) => `stun:h${i}`)}]]) {
    const got = connectWithFakes(t, servers);
    assert.deepEqual([got.servers.length, got.rejected.length], [32, 68]);
  }
});

test('an error of the browser that no server causes is thrown', () => {
  const connect = () => { throw new Error('no more connections'); };
  assert.throws(() => connectWith(connect, [{urls: 'stun:a'}]), /no more connections/);
});

test('a connection gets the servers of a new list that the browser accepts', t => {
  t.mock.method(console, 'warn', () => {});
  /** @type {RTCIceServer[][]} */
  const applied = [];
  const apply = (/** @type {RTCIceServer[]} */ servers) => {
    applied.push(servers);
    new FakeConnection({iceServers: servers});
  };
  assert.deepEqual(applyAccepted(apply, [{urls: 'stun:a'}]), []);
  assert.deepEqual(applied.splice(0), [[{urls: 'stun:a'}]]);
  assert.deepEqual(applyAccepted(apply, [{urls: 'stun:h:1'}, {urls: 'stun:b'}]), ['stun:h:1']);
  assert.deepEqual(applied.at(-1), [{urls: 'stun:b'}]);
});
