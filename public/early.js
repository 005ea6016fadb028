/**
 * The scripts that run before the page is painted. Their bundle is not a module, because a
 * browser paints before it runs modules.
 */

import './reload-on-error.js';
import './language.js';
