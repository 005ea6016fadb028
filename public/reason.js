/**
 * Says why a call does not connect: what was tried, and what to do. It has no clock
 * and no connection: call-watch.js collects the facts.
 */

import {actions} from './actions.js';
import * as strings from './strings.js';

const texts = strings.reason;

/**
 * @typedef {import('./ice-urls.js').UrlKind} UrlKind
 * @typedef {import('./evidence.js').CandidateType} CandidateType
 * @typedef {import('./evidence.js').ServerError} ServerError
 * @typedef {import('./diagnosis.js').ProbeResult} ProbeResult
 * @typedef {object} Facts what one side knows of a call that does not connect
 * @property {boolean} online whether the device has a network
 * @property {boolean} serverReachable
 * @property {boolean} remoteSilent whether no message of the other page has arrived for long
 * @property {boolean} listKnown whether the server has returned its list of ICE servers
 * @property {UrlKind[]} offered the kinds of URLs in the list
 * @property {import('./ice-urls.js').TurnOff} turnOff why the server offers no TURN
 * @property {boolean} relayOnly whether the call uses relays only
 * @property {CandidateType[]} local the candidates of this side
 * @property {CandidateType[]} remote those of the other side
 * @property {ServerError[]} errors of the call
 * @property {Pick<ProbeResult, 'kind' | 'ok' | 'answered' | 'problem' | 'errorCode'>[]} probes
 * @property {boolean} probing whether some probes have not ended
 *
 * @typedef {Exclude<keyof typeof texts, 'keepsTrying'|'tried'|'direct'|'notOffered'|'neither'|'noStun'|'noTurn'|'kinds'|'found'>} ReasonId
 * @typedef {object} Reason
 * @property {ReasonId} id
 * @property {string} title
 * @property {string} advice what to do
 * @property {string} tried what was tried, and what the server offers; '' if that is not the cause
 * @property {string} hint advice and tried as one text
 * @property {import('./actions.js').Action[]} actions
 */

/** @type {ReasonId[]} reasons that a reload can remove */
const reloadable = ['noList', 'relayRefused', 'unexplained'];
/** @type {ReasonId[]} reasons in which the paths have no part */
const withoutPaths = ['offline', 'server', 'silent'];

/** Codes of a TURN server that has no relay left (RFC 8656): quota, capacity. */
const FULL_CODES = [486, 508];

/**
 * Explains why a call does not connect.
 * @param {Facts} facts
 * @returns {Reason}
 */
export function reasonFor(facts) {
  const id = findReason(facts);
  const {title, advice} = texts[id];
  const tried = withoutPaths.includes(id) ? '' : describeAttempts(facts);
  const hint = [advice, tried, texts.keepsTrying].filter(Boolean).join(' ');
  const second = reloadable.includes(id) ? actions.reload : actions.retry;
  return {id, title, advice, tried, hint, actions: [actions['test-page'], second]};
}

/**
 * @param {Facts} facts
 * @returns {ReasonId}
 */
function findReason(facts) {
  if (!facts.online) return 'offline';
  if (!facts.serverReachable) return 'server';
  if (facts.remoteSilent) return 'silent';
  const relays = turnStates(facts);
  if (isBlocked(facts, relays)) return 'blocked';
  if (relays.length === 0) return missingRelay(facts);
  if (relays.every(({state}) => state === 'pending')) return 'testing';
  if (!relays.some(({state}) => state === 'ok' || state === 'answered')) return relayProblem(relays);
  if (facts.remote.includes('relay')) return 'unexplained';
  return 'remoteNetwork';
}

/**
 * Whether the browser itself forbids connections: it has no candidate at all, and no
 * relay answers.
 * @param {Facts} facts
 * @param {Attempt[]} relays
 */
function isBlocked({local, relayOnly, probes, probing}, relays) {
  if (probes.some(({problem}) => problem === 'blocked')) return !relays.some(({state}) => state === 'ok');
  return !relayOnly && !probing && local.length === 0 && relays.every(({state}) => state === 'unreachable');
}

/**
 * @param {Facts} facts
 * @returns {ReasonId}
 */
function missingRelay({listKnown, turnOff}) {
  if (turnOff === 'month-used') return 'monthUsed';
  if (turnOff === 'other-origin') return 'otherOrigin';
  return listKnown ? 'noRelay' : 'noList';
}

/**
 * Returns the reason if no relay works. A refusal says more than the absence of an answer.
 * @param {Attempt[]} relays
 * @returns {ReasonId}
 */
function relayProblem(relays) {
  if (relays.some(({state}) => state === 'pending')) return 'testing';
  if (relays.some(({state}) => state === 'noPath')) return 'relayBroken';
  const refused = relays.filter(({state}) => state === 'refused');
  if (refused.some(({code}) => FULL_CODES.includes(code))) return 'relayFull';
  if (refused.length > 0) return 'relayRefused';
  return relays.every(({state}) => state === 'rejected') ? 'relayRejected' : 'relayUnreachable';
}

/**
 * @typedef {{kind: UrlKind, state: keyof typeof texts.found, code: number}} Attempt
 *   the best result of all URLs of a kind
 */

/**
 * Returns what is known of each kind of TURN that the server offers.
 * @param {Facts} facts
 */
function turnStates(facts) {
  const states = facts.offered.filter(kind => kind !== 'stun').map(kind => attempt(kind, facts));
  // The call has a relay, but its candidate does not say over which URL.
  const relayed = facts.local.includes('relay') && !states.some(({state}) => state === 'ok' || state === 'answered');
  const first = states.find(({state}) => state === 'pending') ?? states[0];
  return states.map(one => (relayed && one === first ? {...one, state: /** @type {const} */ ('answered')} : one));
}

/**
 * @param {UrlKind} kind
 * @param {Facts} facts
 * @returns {Attempt}
 */
function attempt(kind, {probes, probing, errors, local}) {
  const results = probes.filter(result => result.kind === kind);
  if (results.some(({ok}) => ok)) return {kind, state: kind === 'stun' ? 'answered' : 'ok', code: 0};
  if (kind === 'stun' && local.includes('srflx')) return {kind, state: 'answered', code: 0};
  const ended = results.filter(({problem}) => problem !== 'cancelled');
  const failed = ended.find(({answered}) => answered) ?? ended.find(({problem}) => problem === 'refused') ?? ended[0];
  if (failed) return {kind, state: stateOf(failed), code: failed.errorCode};
  const error = errors.find(one => one.kind === kind && one.code < 700) ?? errors.find(one => one.kind === kind);
  if (probing) return {kind, state: 'pending', code: 0};
  if (error) return {kind, state: error.code < 700 ? 'refused' : 'unreachable', code: error.code};
  return {kind, state: 'untested', code: 0};
}

/**
 * @param {Facts['probes'][number]} result
 * @returns {Attempt['state']}
 */
function stateOf({answered, problem}) {
  if (answered) return 'noPath';
  return problem === 'refused' || problem === 'rejected' ? problem : 'unreachable';
}

/**
 * Returns the sentences on what was tried, and on what the server does not offer.
 * @param {Facts} facts
 */
function describeAttempts(facts) {
  const {found, kinds, tried, notOffered} = texts;
  const stun = facts.offered.filter(kind => kind === 'stun').map(kind => attempt(kind, facts));
  const servers = [...stun, ...turnStates(facts)].map(({kind, state, code}) => found[state]({kind: kinds[kind], code}));
  const list = [...facts.relayOnly ? [] : [texts.direct], ...servers];
  const missing = facts.listKnown ? missingServers(facts) : '';
  return [list.length > 0 ? tried({list: list.join(', ')}) : '', missing && notOffered({list: missing})].filter(Boolean).join(' ');
}

/** @param {Facts} facts */
function missingServers({offered}) {
  const stun = offered.includes('stun');
  const turn = offered.some(kind => kind !== 'stun');
  if (stun && turn) return '';
  if (stun) return texts.noTurn;
  return turn ? texts.noStun : texts.neither;
}
