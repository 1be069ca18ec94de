// The scripts share one scope and are joined in an order that `site.py` holds: what a file takes
// from another one is known in the joined script only, so that one is looked at.
import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    // the start page takes a part of core.js
    files: ["joined/start.js"],
    rules: { "no-unused-vars": "off" },
  },
];
