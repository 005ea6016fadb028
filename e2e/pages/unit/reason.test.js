/** Tests reason.js: what the pages say for each set of facts. */

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {test} from 'node:test';
import {defaultActions} from '../../../public/actions.js';
import {reasonFor} from '../../../public/reason.js';
import * as strings from '../../../public/strings.js';

/**
 * @typedef {import('../../../public/reason.js').Facts} Facts
 * @typedef {import('../../../public/reason.js').ReasonId} ReasonId
 * @typedef {import('../../../public/ice-urls.js').UrlKind} UrlKind
 */

/** What a call knows that has no direct path on a server without a relay. @type {Facts} */
const plain = {
  online: true, serverReachable: true, remoteSilent: false, listKnown: true, offered: ['stun'], turnOff: '', relayOnly: false,
  local: ['host', 'srflx'], remote: ['host'], errors: [], probes: [], probing: false,
};
/** @type {UrlKind[]} */
const all = ['stun', 'turn-udp', 'turn-tls'];

/**
 * @param {UrlKind} kind
 * @param {string} problem '' for ok
 * @returns {Facts['probes'][number]}
 */
function result(kind, problem, errorCode = 0) {
  return {kind, ok: problem === '', answered: problem === '' || problem === 'no-path', problem: /** @type {any} */ (problem), errorCode};
}

const works = [result('stun', ''), result('turn-udp', ''), result('turn-tls', '')];
const noAnswer = [result('stun', 'unreachable', 701), result('turn-udp', 'unreachable', 701), result('turn-tls', 'unreachable', 701)];

/** @type {[string, Partial<Facts>, ReasonId, RegExp][]} the last is a part of what was tried */
const cases = [
  ['the device is offline', {online: false, serverReachable: false, remoteSilent: true}, 'offline', /^$/],
  ['the server does not answer', {serverReachable: false, remoteSilent: true}, 'server', /^$/],
  ['the remote page is gone', {remoteSilent: true}, 'silent', /^$/],
  ['neither STUN nor TURN', {offered: []}, 'noRelay', /^Tried: a direct path\. The server does not offer STUN or a relay \(TURN\)\.$/],
  ['STUN answers, no TURN', {}, 'noRelay', /^Tried: a direct path, STUN \(answers\)\. The server does not offer a relay \(TURN\)\.$/],
  ['STUN answers with the own address', {local: ['host'], probes: [result('stun', '')]}, 'noRelay', /STUN \(answers\)/],
  ['STUN does not answer, no TURN', {local: ['host'], probes: [result('stun', 'unreachable')]}, 'noRelay', /STUN \(no answer\)/],
  ['TURN without STUN', {offered: ['turn-udp'], probes: [result('turn-udp', 'unreachable')]}, 'relayUnreachable', /does not offer STUN\.$/],
  ['the month is used up', {turnOff: 'month-used'}, 'monthUsed', /does not offer a relay/],
  ['the month is used up, and another relay works', {turnOff: 'month-used', offered: ['turn-udp'], probes: [result('turn-udp', '')]}, 'remoteNetwork', /relay over UDP \(works\)/],
  ['the page is of another site', {turnOff: 'other-origin'}, 'otherOrigin', /does not offer a relay/],
  ['the list did not arrive', {listKnown: false, offered: []}, 'noList', /^Tried: a direct path\.$/],
  ['probes are running', {offered: all, probing: true}, 'testing', /relay over UDP \(being tested\), relay over TLS \(being tested\)/],
  ['one probe has failed, another is running', {offered: all, probing: true, probes: [result('turn-udp', 'unreachable')]}, 'testing', /relay over UDP \(no answer\), relay over TLS \(being tested\)/],
  ['no relay answers', {offered: all, local: ['host'], probes: noAnswer}, 'relayUnreachable', /^Tried: a direct path, STUN \(no answer\), relay over UDP \(no answer\), relay over TLS \(no answer\)\.$/],
  ['no relay answers the call, and probes failed to load', {offered: all, errors: [{kind: 'turn-udp', code: 701}]}, 'relayUnreachable', /relay over UDP \(no answer\), relay over TLS \(not tested\)/],
  ['probes were cancelled', {offered: all, probes: [result('turn-udp', 'cancelled')]}, 'relayUnreachable', /relay over UDP \(not tested\)/],
  ['the relay has no quota left', {offered: all, probes: [result('turn-udp', 'refused', 486), result('turn-tls', 'unreachable')]}, 'relayFull', /refused, error 486/],
  ['the relay has no capacity left', {offered: all, errors: [{kind: 'turn-udp', code: 508}]}, 'relayFull', /refused, error 508/],
  ['the relay refuses the credentials', {offered: all, probes: [result('turn-udp', 'refused', 401), result('turn-tls', 'refused', 401)]}, 'relayRefused', /error 401/],
  ['the browser rejects all URLs', {offered: ['turn-udp'], probes: [result('turn-udp', 'rejected')]}, 'relayRejected', /rejected by this browser/],
  ['the relay passes no data', {offered: all, probes: [result('turn-udp', 'no-path'), result('turn-tls', 'unreachable')]}, 'relayBroken', /answers, but passes no data/],
  ['the other side has no relay', {offered: all, probes: works, local: ['host', 'relay']}, 'remoteNetwork', /relay over UDP \(works\), relay over TLS \(works\)/],
  ['only TLS works here, the other side has no relay', {offered: all, probes: [noAnswer[0], noAnswer[1], works[2]]}, 'remoteNetwork', /relay over UDP \(no answer\), relay over TLS \(works\)/],
  ['the call has a relay, and probes are running', {offered: all, local: ['relay'], probing: true}, 'remoteNetwork', /relay over UDP \(answers\), relay over TLS \(being tested\)/],
  ['both sides have a relay', {offered: all, probes: works, local: ['relay'], remote: ['relay']}, 'unexplained', /works/],
  ['the browser has no candidate', {offered: all, local: [], probes: noAnswer}, 'blocked', /no answer/],
  ['the browser has no candidate, and no TURN is offered', {local: []}, 'blocked', /does not offer a relay/],
  ['the browser uses no UDP', {local: [], probes: [result('stun', 'blocked')]}, 'blocked', /STUN \(no answer\)/],
  ['the browser uses no UDP, but the relay over TLS works', {offered: all, local: ['relay'], probes: [result('stun', 'blocked'), noAnswer[1], works[2]]}, 'remoteNetwork', /relay over TLS \(works\)/],
  ['relays only, none offered', {relayOnly: true, local: []}, 'noRelay', /^Tried: STUN/],
];

for (const [name, facts, id, tried] of cases) {
  test(`${name}: ${id}`, () => {
    const reason = reasonFor({...plain, ...facts});
    assert.equal(reason.id, id);
    assert.match(reason.tried, tried);
    assert.ok(reason.title && reason.advice && reason.hint.includes(reason.advice) && reason.hint.includes(reason.tried));
    assert.match(reason.hint, /This page keeps trying\.$/);
    assert.ok(reason.actions.some(({kind}) => kind === 'test-page'), 'the test page is offered');
    assert.ok(reason.actions.length === 2 && reason.actions.every(({text}) => text), 'two actions with a text');
  });
}

test('all facts have a reason with an action', () => {
  let count = 0;
  for (const facts of combinations()) {
    const {title, hint, actions} = reasonFor(facts);
    assert.ok(title && hint && actions.length > 0 && !/undefined|\[object/.test(title + hint), JSON.stringify(facts));
    count++;
  }
  assert.ok(count > 4000, `${count} combinations`);
});

test('an error without a reason offers the test page and a reload', () => {
  assert.deepEqual(defaultActions.map(({kind}) => kind), ['test-page', 'reload']);
});

/** @returns {Generator<Facts>} */
function* combinations() {
  const problems = ['', 'rejected', 'blocked', 'unreachable', 'refused', 'no-path', 'cancelled'];
  for (const serverReachable of [true, false]) for (const remoteSilent of [true, false]) for (const probing of [true, false])
    for (const offered of [[], ['stun'], ['turn-tls'], all]) for (const turnOff of ['', 'month-used', 'other-origin'])
      for (const local of [[], ['host'], ['relay']]) for (const remote of [[], ['relay']]) for (const problem of problems)
        yield /** @type {Facts} */ ({...plain, serverReachable, remoteSilent, probing, offered, turnOff, local, remote,
          probes: offered.map(kind => result(/** @type {UrlKind} */ (kind), problem, 1))});
}

test('docs/troubleshooting.md explains each title, and no other', () => {
  const text = readFileSync(new URL('../../../docs/troubleshooting.md', import.meta.url), 'utf8');
  const [, table] = text.split('| the page says |');
  const explained = [...table.split('\n\n')[0].matchAll(/^\| ([A-Z][^|]+) \|/gm)].map(([, title]) => title);
  const titles = Object.entries(strings.reason).flatMap(([id, value]) =>
    typeof value === 'object' && 'title' in value && !['offline', 'server', 'testing'].includes(id) ? [value.title] : []);
  assert.deepEqual(explained.sort(), titles.sort());
});
