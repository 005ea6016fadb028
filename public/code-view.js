/**
 * What the code box shows, computed from the state of a {@link CodePairing}. No
 * text of another device or of the server is shown: reasons select a text here, and
 * digits come from the key exchange of this device only.
 */

import {noticeFor} from './status.js';
import * as strings from './strings.js';

const texts = strings.pairing;

/**
 * @typedef {import('./code-pairing.js').CodePairing} CodePairing
 * @typedef {'letIn'|'refuse'|'confirm'|'differ'|'cancel'|'renew'|'openOtherPage'} ActionName
 * @typedef {{name: ActionName, label: string, main?: boolean, risky?: boolean}} Action
 *   a press by accident must not start a risky action
 * @typedef {{title: string, text: string, digits?: string, actions: Action[], until?: number}} Panel
 *   an exchange, which hides the code and the field
 * @typedef {{code: string, text: string, until?: number, actions: Action[]}} OwnCode
 * @typedef {{panel: Panel | null, own: OwnCode | null, error: string}} View
 */

/** @param {ActionName} name @returns {Action} */
const action = name => ({name, label: texts[name]});
/** @param {ActionName} name @returns {Action} */
const mainAction = name => ({...action(name), main: true});
/** @param {ActionName} name @returns {Action} */
const riskyAction = name => ({...mainAction(name), risky: true});

/**
 * Returns what to show.
 * @param {CodePairing} pairing
 * @returns {View}
 */
export function codeView(pairing) {
  return {
    panel: joinerPanel(pairing) ?? ownerPanel(pairing),
    own: pairing.owner && ownCode(pairing.owner),
    error: pairing.error && errorText(pairing.error),
  };
}

/** @param {CodePairing} pairing @returns {Panel | null} */
function joinerPanel({joiner, confirmed, otherPage, joined}) {
  if (joined) return {...texts.opening, actions: []};
  if (otherPage) return {...texts.otherPage[otherPage.page], actions: [mainAction('openOtherPage'), action('cancel')]};
  if (!joiner) return null;
  if (joiner.state !== 'asked') return {...texts.contacting, ...retryOf(joiner.retry), actions: [action('cancel')]};
  const {digits} = joiner;
  if (confirmed) return {...texts.confirmed, digits, actions: [action('cancel')]};
  return {...texts.compare, digits, actions: [riskyAction('confirm'), action('differ')]};
}

/** @param {CodePairing} pairing @returns {Panel | null} */
function ownerPanel({owner, lettingIn}) {
  const {digits = ''} = owner ?? {};
  if (owner?.state === 'let-in') return {...texts.let, actions: [action('renew')]};
  if (owner?.state === 'interrupted') return {...texts.interrupted, text: interruptionText(owner.reason), actions: [mainAction('renew')]};
  if (owner?.state !== 'asked') return null;
  if (lettingIn) return {...texts.lettingIn, digits, actions: []};
  return {...texts.asked, digits, actions: [riskyAction('letIn'), action('refuse')]};
}

/** @param {import('./code-owner.js').CodeOwner} owner @returns {OwnCode} */
function ownCode({state, code, retry}) {
  if (state === 'failed') return {code: '', text: texts.noCode, actions: [action('renew')]};
  if (state === 'exchanging') return {code, text: texts.exchanging, actions: []};
  if (code) return {code, text: texts.ownHint, actions: []};
  return {code: '', text: texts.starting, ...retryOf(retry), actions: []};
}

/** @param {import('./pairing.js').Retry | null} retry */
function retryOf(retry) {
  if (!retry) return {};
  const {error, until} = retry;
  const text = error.status === 429 ? texts.limited : noticeFor(error).title;
  return error.retryAfter ? {text, until} : {text};
}

/** @param {string} error */
function errorText(error) {
  return lookUp(texts.errors, error) ?? texts.failed;
}

/** @param {string} reason */
function interruptionText(reason) {
  return lookUp(texts.interruptions, reason) ?? texts.interruption;
}

/**
 * Returns the text of a reason, which the other device can have chosen.
 * @param {Record<string, string>} reasons
 * @param {string} reason
 */
function lookUp(reasons, reason) {
  return Object.hasOwn(reasons, reason) ? reasons[reason] : undefined;
}
