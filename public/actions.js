/** What the user can press when something is wrong. */

import * as strings from './strings.js';

/**
 * @typedef {'test-page'|'start-page'|'retry'|'reload'} ActionKind
 * @typedef {{kind: ActionKind, text: string}} Action
 */

const texts = strings.actions;

/** @type {Record<ActionKind, Action>} */
export const actions = {
  'test-page': {kind: 'test-page', text: texts.testPage},
  'start-page': {kind: 'start-page', text: texts.startPage},
  'retry': {kind: 'retry', text: texts.retry},
  'reload': {kind: 'reload', text: texts.reload},
};

/** Actions for an error that has no others. */
export const defaultActions = [actions['test-page'], actions.reload];
/** The action for an error of a camera or a microphone. */
export const testAction = [actions['test-page']];
/** Actions for a page that cannot work with its link, or in this browser. */
export const fatalActions = [actions['start-page'], actions['test-page']];
