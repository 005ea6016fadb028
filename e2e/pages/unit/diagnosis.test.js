/** Tests diagnosis.js: what is probed, how each probe ends, and what a run costs. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Diagnosis, diagnose, targets} from '../../../public/diagnosis.js';
import {ProbeConnection} from '../lib/probeconnection.js';

/** @typedef {import('../../../public/diagnosis.js').ProbeResult} ProbeResult */

const servers = [
  {urls: ['stun:a']},
  {urls: ['turn:a?transport=udp', 'turn:a?transport=tcp', 'turns:a?transport=tcp'], username: 'u', credential: 'c'},
  {urls: 'turn:b', username: 'u', credential: 'c'},
];

/**
 * Probes one URL with fake connections.
 * @param {string} url
 * @param {(connection: ProbeConnection) => void} [script] runs when a connection gathers candidates
 * @param {object} [options]
 * @returns {Promise<[ProbeResult, ProbeConnection[]]>}
 */
async function probe(url, script = () => {}, options = {}) {
  /** @type {ProbeConnection[]} */
  const made = [];
  const connect = (/** @type {RTCConfiguration} */ configuration) => {
    made.push(new ProbeConnection(configuration, script));
    return /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (made.at(-1)));
  };
  const [result] = await diagnose(targets([{urls: url, username: 'u', credential: 'c'}]), {timeout: 200, connect, ...options});
  return [result, made];
}

test('each URL is a target, numbered within its kind', () => {
  assert.deepEqual(targets(servers).map(({kind, number}) => `${kind} ${number}`),
    ['stun 1', 'turn-udp 1', 'turn-tcp 1', 'turn-tls 1', 'turn-udp 2']);
});

for (const [name, list] of /** @type {[string, unknown][]} */ ([
  ['null', null], ['text', 'x'], ['an entry without a URL', [{}]], ['another scheme', [{urls: 'https://a'}]], ['numbers', [{urls: [1, null]}]],
])) {
  test(`${name} is no target`, () => assert.deepEqual(targets(list), []));
}

test('at most twelve URLs are probed', () => {
  assert.equal(targets([{urls: Array.from({length: 100}, (_, i) => `stun:h${i}`)}]).length, 12);
});

/** @type {[string, string, (connection: ProbeConnection) => void, Partial<ProbeResult>][]} */
const outcomes = [
  ['STUN answers', 'stun:a', c => c.candidate('srflx'), {ok: true, answered: true, problem: ''}],
  ['STUN answers with the address of the device', 'stun:a', c => c.candidate('host').gathered(), {ok: true, answered: true, problem: ''}],
  ['STUN does not answer in time', 'stun:a', c => c.candidate('host'), {ok: false, answered: false, problem: 'unreachable'}],
  ['STUN cannot be reached', 'stun:a', c => c.candidate('host').error(701).gathered(), {ok: false, problem: 'unreachable', errorCode: 701}],
  ['STUN answers on one of two networks', 'stun:a', c => c.candidate('host').error(701).candidate('srflx'), {ok: true, problem: ''}],
  ['the browser uses no UDP', 'stun:a', c => c.gathered(), {ok: false, problem: 'blocked'}],
  ['the browser uses TCP only', 'stun:a', c => c.candidate('host', 'tcp').gathered(), {ok: false, problem: 'blocked'}],
  ['TURN does not answer in time', 'turn:a', () => {}, {ok: false, answered: false, problem: 'unreachable'}],
  ['TURN cannot be reached', 'turns:a', c => c.error(701).gathered(), {ok: false, problem: 'unreachable', errorCode: 701}],
  ['TURN fails without a code', 'turns:a', c => c.gathered(), {ok: false, problem: 'unreachable', errorCode: 0}],
  ['TURN refuses', 'turn:a', c => c.error(486).gathered(), {ok: false, answered: false, problem: 'refused', errorCode: 486}],
  ['TURN passes no data', 'turn:a', c => c.candidate('relay').gathered(), {ok: false, answered: true, problem: 'no-path'}],
  ['TURN passes data', 'turn:a', c => c.candidate('relay').gathered().open(), {ok: true, answered: true, problem: ''}],
  ['TURN passes data, after an error on another network', 'turn:a', c => c.error(701).candidate('relay').open(), {ok: true, problem: ''}],
];
for (const [name, url, script, want] of outcomes) {
  test(`${name}: ${want.ok ? 'ok' : want.problem}, and all connections are closed`, async () => {
    const [result, made] = await probe(url, script);
    for (const [key, value] of Object.entries(want)) assert.equal(result[/** @type {keyof ProbeResult} */ (key)], value, key);
    assert.ok(made.length > 0 && made.every(({closed}) => closed), 'closed connections');
  });
}

test('a URL that the browser rejects', async () => {
  const [result] = await probe('stun:a', undefined, {connect: () => { throw new SyntaxError('invalid URL'); }});
  assert.deepEqual([result.ok, result.problem], [false, 'rejected']);
});

test('a call to itself uses relays only and the credentials; STUN does not', async () => {
  const [, turn] = await probe('turn:a', c => c.candidate('relay').open());
  assert.deepEqual(turn.map(({configuration}) => configuration),
    Array(2).fill({iceServers: [{urls: 'turn:a', username: 'u', credential: 'c'}], iceTransportPolicy: 'relay'}));
  const [, stun] = await probe('stun:a', c => c.candidate('srflx'));
  assert.equal(stun[0].configuration.iceTransportPolicy, 'all');
});

test('cancelling ends all probes at once', async () => {
  const abort = new AbortController();
  setTimeout(() => abort.abort());
  const [result, made] = await probe('turn:a', () => {}, {timeout: 60_000, signal: abort.signal});
  assert.equal(result.problem, 'cancelled');
  assert.ok(made.every(({closed}) => closed));
  const [late, none] = await probe('turn:a', () => {}, {timeout: 60_000, signal: abort.signal});
  assert.deepEqual([late.problem, none.length], ['cancelled', 0]);
});

test('three probes run at a time', async () => {
  let open = 0;
  let most = 0;
  const connect = (/** @type {RTCConfiguration} */ configuration) => {
    most = Math.max(most, ++open);
    const connection = new ProbeConnection(configuration, c => setTimeout(() => c.candidate('srflx')));
    connection.onclosed = () => open--;
    return /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (connection));
  };
  const results = await diagnose(targets([{urls: Array.from({length: 9}, (_, i) => `stun:h${i}`)}]), {connect});
  assert.deepEqual([results.length, results.every(({ok}) => ok), most, open], [9, true, 3, 0]);
});

test('automatic runs are a minute apart, and keep the results of the last one', async t => {
  t.mock.timers.enable({apis: ['Date']});
  let runs = 0;
  const diagnosis = new Diagnosis(async (list, {onResult} = {}) => {
    runs++;
    for (const {kind, number} of list) onResult?.({kind, number, ok: runs > 1, answered: true, ms: 1, problem: '', errorCode: 0});
    return [];
  });
  await diagnosis.run(servers);
  await diagnosis.run(servers);
  t.mock.timers.tick(59_000);
  await diagnosis.run(servers);
  assert.deepEqual([runs, diagnosis.running, diagnosis.results.length, diagnosis.results[0].ok], [1, false, 5, false]);
  t.mock.timers.tick(1_000);
  await diagnosis.run([{urls: 'stun:a'}]);
  assert.deepEqual([runs, diagnosis.results.map(({kind, ok}) => `${kind} ${ok}`)], [2, ['stun true']]);
});
