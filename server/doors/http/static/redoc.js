"use strict";
Redoc.init("openapi.json", { hideDownloadButton: false, sideNavStyle: "summary-only" }, document.getElementById("redoc"));
