/** The page of a path that does not exist. */

import './strings.js'; // translates the page
