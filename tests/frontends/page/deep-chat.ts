import "./documented";
